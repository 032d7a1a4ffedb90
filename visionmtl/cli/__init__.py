"""The command line: ``main`` parses and dispatches, ``arguments`` declares what each command takes.

Every command has a module of its name with ``run(arguments) -> exit code``. It is imported when the
command runs; parsing and ``--help`` load no other library.

>>> from visionmtl.cli.main import parse
>>> parse(["train", "configs/rooms_resnet10t_hard.yaml", "trainer.epochs=2"]).overrides
['trainer.epochs=2']
"""
