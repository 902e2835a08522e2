"""The image specs that come with prong, as YAML files: what `prong image build NAME` knows by name.

Words:
    built-in spec: one file here, named as the image it makes; another spec may extend it by that name.

Holds data only and touches nothing; :func:`prong.image.spec.load_spec` reads it. Start reading at ``base.yaml``, which
the others extend.
"""
