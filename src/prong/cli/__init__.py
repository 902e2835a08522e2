"""The command line: turns words into calls on the layers below, and their answers and errors into text or JSON.

Words
    command module   one module per command (or group of commands); it has ``register(app)``, which adds them to the
                     app, and is named in :data:`prong.cli.app.COMMANDS`
    output           how one invocation speaks (:class:`prong.cli.output.Output`): text for people, or with ``--json``
                     one JSON document; results to standard output, errors and progress to standard error
    exit status      0 done; 1 a :class:`~prong.errors.ProngError`; 2 invalid input; 130 interrupted. Commands that run
                     a program pass its status on

May touch: every layer below. Nothing imports the command line. Command modules import what they call inside the
function that calls it, so that ``prong --help`` stays quick.

Start reading at :func:`prong.cli.app.main`.
"""
