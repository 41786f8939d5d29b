"""Completion: the script that lets a shell complete `basestore` commands.

Prints what click makes for bash, zsh or fish; installs nothing, and asks no node.
"""

import click
from click.shell_completion import get_completion_class

from basestore.cli import exits
from basestore.cli.options import command


@command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(ctx: click.Context, shell: str) -> int:
    """Print the completion script of a shell.

    \b
    bash   eval "$(basestore completion bash)"      in ~/.bashrc
    zsh    eval "$(basestore completion zsh)"       in ~/.zshrc
    fish   basestore completion fish | source       in ~/.config/fish/config.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None  # click has all three
    click.echo(kind(ctx.find_root().command, {}, "basestore", "_BASESTORE_COMPLETE").source())
    return exits.DONE
