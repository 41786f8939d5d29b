"""Rounds: what a coordinator has asked, and which operation goes on once the answers are enough."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.model.registers.messages import Answer, Asked, Moved, Refused
from tests.model.registers.operations import Answers, Ask, Pause, Result, Steps

if TYPE_CHECKING:
    from tests.model.registers.node import Node


class Task:
    """An operation under way."""

    def __init__(self, steps: Steps, then: Callable[[Result | None], None]) -> None:
        self.steps = steps
        self.then = then
        self.over = False

    def give_up(self) -> None:
        self.end(None)

    def end(self, result: Result | None) -> None:
        if not self.over:
            self.over = True
            self.then(result)


class Round:
    def __init__(self, task: Task, ask: Ask) -> None:
        self.task = task
        self.ask = ask
        self.answers: Answers = {}


class Rounds:
    """All of one node."""

    def __init__(self, node: "Node") -> None:
        self.node = node
        self.number = 0
        self.open: dict[int, Round] = {}
        self.tasks: dict[Task, None] = {}  # in their order

    def run(self, steps: Steps, then: Callable[[Result | None], None]) -> Task:
        task = Task(steps, then)
        self.tasks[task] = None
        self.go_on(task, None)
        return task

    def go_on(self, task: Task, answers: Answers | None) -> None:
        if task.over:
            self.tasks.pop(task, None)
            return
        try:
            step = task.steps.send(answers)
        except StopIteration as stop:
            self.tasks.pop(task, None)
            task.end(stop.value)
            return
        if isinstance(step, Pause):
            self.node.world.after(step.us, self.node.alive(lambda: self.go_on(task, None)))
        else:
            self.begin(Round(task, step))

    def begin(self, round: Round) -> None:
        self.number += 1
        number, node = self.number, self.node
        self.open[number] = round
        for member in sorted(node.entry.acceptors):
            node.send(member, Asked(number, round.ask.request))
        if round.ask.patience_us:
            node.world.after(round.ask.patience_us, node.alive(lambda: self.close(number)))

    def hear(self, sender: int, answer: Answer) -> None:
        round = self.open.get(answer.number)
        if round is None:
            return
        if isinstance(answer.said, Refused):
            self.node.observe(answer.said.known)
            self.close(answer.number, refused=True)
        elif isinstance(answer.said, Moved):
            self.close(answer.number, refused=True)
        else:
            round.answers[sender] = answer.said
            if round.ask.enough(round.answers):
                self.close(answer.number)

    def close(self, number: int, *, refused: bool = False) -> None:
        round = self.open.pop(number, None)
        if round is not None:
            self.go_on(round.task, None if refused else round.answers)

    def begin_anew(self) -> None:
        """The acceptors are others: nothing that was counted counts."""
        open, self.open = self.open, {}
        for round in open.values():
            self.go_on(round.task, None)

    def end(self) -> None:
        tasks, self.tasks = self.tasks, {}
        self.open.clear()
        for task in tasks:
            task.give_up()
