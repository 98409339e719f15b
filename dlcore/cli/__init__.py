"""The command `dlcore`: `train`, `info`, `check` and `bench`.

Exit codes: 0 done, 1 `check` found an op that is off, 2 a wrong argument or file, or no GPU (one
sentence on stderr), 130 interrupted by Ctrl-C, 141 whoever reads the output has closed it.
"""

import importlib
import os
import sys

COMMANDS = {
    "train": "train a network on a data set (the main job)",
    "info": "show version, instruction set, threads and devices",
    "check": "compare every op with its formula in float64",
    "bench": "measure kernels and training steps, beside other libraries",
}


def main(argv=None):
    """Run the command line `argv` (by default that of the process) and return the exit code."""
    try:
        options = _parse(sys.argv[1:] if argv is None else argv)
        code = options.run(options) or 0
        if sys.stdout:  # None where it is closed
            sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("dlcore: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, as in `dlcore check | head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at the end
        return 141
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        print(f"dlcore: {error}", file=sys.stderr)
        return 2


def _parse(argv):
    import argparse

    from dlcore import lookup, version

    class Parser(argparse.ArgumentParser):
        def error(self, message):  # one sentence, without the usage lines
            self.exit(2, f"{self.prog}: {message}\n")

        def _check_value(self, action, value):
            if action.choices is not None and value not in action.choices:
                known = [*action.choices]
                raise ValueError(
                    f"{(action.option_strings or [action.metavar])[0]}: expected one of"
                    f" {', '.join(known)}, got {value!r}{lookup.suggestion(value, known)}"
                )

    parser = Parser(prog="dlcore", description="Neural networks at the speed of the hardware.")
    parser.add_argument("--version", action="version", version=f"dlcore {version()}")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    for name, purpose in COMMANDS.items():
        command = commands.add_parser(name, help=purpose, description=purpose)
        module = importlib.import_module(f"dlcore.cli.{name}")
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    options, unknown = parser.parse_known_args(argv)
    if unknown:
        known = commands.choices[options.command]._option_string_actions
        hint = lookup.suggestion(unknown[0], known)
        raise ValueError(f"{options.command}: expected a known option, got {unknown[0]!r}{hint}")
    return options


def writable(command, path):
    """`path`, refused now rather than after the work if it cannot be written."""
    folder = os.path.dirname(path) or "."
    if os.path.isdir(path) or not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise ValueError(
            f"{command}: expected a file in a folder that can be written, got {path!r}"
        )
    return path


def whole(least, what):
    """An argparse type: an integer of at least `least`."""

    def parse(text):
        import argparse

        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or value < least:
            raise argparse.ArgumentTypeError(f"expected {what} of {least} or more, got {text!r}")
        return value

    return parse
