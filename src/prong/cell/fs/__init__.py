"""The cell's file systems, all in memory over one read-only image, and the system calls that reach them.

Words
-----
Image       what is installed: read only, the only host files ever touched, reached through :class:`ImageSource`.
Node        an inode: identity and attributes of a file, independent of its names. Directories hold names → nodes.
clean       a node that says nothing the image does not say; it may be forgotten and made again.
lower       the image path a node's content (file) or remaining entries (directory) come from.
whiteout    a name of the image that was removed: a directory entry of None.
Content     the bytes of a written file in 64 KiB chunks; a missing chunk is a hole, or still the image's.
Overlay     the file system of nodes over the image, with a quota (bytes plus 1 KiB per name); without an image it is tmpfs.
generated   files of /proc, /sys and /dev whose text is made when they are read, each by one small function.
channel     stdin, stdout, stderr and control: files whose other end is the host.

Rules of the room: no host path except through ``image.py``; a symbolic link is never followed by the host; state is plain
``@saved`` objects; a name or a byte the guest makes us hold is charged to the overlay's quota.

Start reading at ``nodes.py``, then ``overlay.py`` and ``walk.py``; system calls are in ``calls/``, one file a topic.
"""
