"""How a team does its turn: one member after the other, all at once, or as a lead says.

Each task of a member is a call of the tool `delegate`: made by the team, or by its lead, which
knows it as a tool of the client. What the member says has the `call_id` as its `parent`. So the log
tells what has been done, and a turn that goes on behind its asks finds its tasks there.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from ....model.chunks import AgentChunk, Keep, ToolCall
from ....model.errors import AgentError
from ...base import AgentSource, ClientTool, PastCall, Turn
from .crew import Crew
from .part import DELEGATE, Member, MemberPart

#: The engine of an agent that is a team.
ENGINE = "team"
#: The agents of a team.
MAX_MEMBERS = 32
#: Tasks that a lead gives in one turn.
MAX_TASKS = 100


@dataclass(frozen=True, slots=True)
class Team:
    """A team as it is recorded."""

    strategy: str
    members: Sequence[Member]
    lead: str | None
    on_failure: str

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Team:
        members = [Member(**member) for member in record["members"]]
        return cls(record["strategy"], members, record["lead"], record["on_failure"])

    @property
    def fails(self) -> bool:
        """A member that fails ends the turn."""
        return self.on_failure == "fail"


class TeamAgent:
    """An agent whose turns are done by others, as `Agent` promises."""

    #: Members that wait in their place are not run again in another process.
    restartable = False

    def __init__(self, team: Mapping[str, Any], organization_id: str, agents: AgentSource) -> None:
        self._team = Team.of(team)
        self._organization_id = organization_id
        self._agents = agents

    async def run(self, turn: Turn) -> AsyncGenerator[AgentChunk, None]:
        crew = Crew(turn, self._organization_id, self._agents)
        kind = _Led if self._team.strategy == "hierarchical" else _Planned
        try:
            async with aclosing(kind(self._team, turn, crew).chunks()) as chunks:
                async for chunk in chunks:
                    yield chunk
        finally:
            await crew.close()


class _TeamTurn:
    """What every strategy does."""

    def __init__(self, team: Team, turn: Turn, crew: Crew) -> None:
        self.team = team
        self.turn = turn
        self.crew = crew
        kept = turn.kept if isinstance(turn.kept, dict) else {}
        self._kept: Mapping[str, Any] = kept
        #: The calls of `delegate` up to now, by call_id.
        self.called: dict[str, PastCall] = {
            call.call_id: call
            for step in turn.so_far
            for call in step.calls
            if call.tool == DELEGATE
        }

    def part(self, member: Member, task: str, call_id: str) -> MemberPart:
        """A task; one of a turn that goes on is where it was."""
        part = MemberPart(self._for_members, member, task, call_id)
        if call_id in self.called:
            before = self.turn.so_far_of.get(part.origin, ())
            part.go_on(before, self._kept.get(call_id))
        return part

    async def do(self, parts: Sequence[MemberPart]) -> AsyncGenerator[AgentChunk, None]:
        """Have tasks done, as far as that goes without answers."""
        while parts:
            work = self.crew.work(parts, fails=self.team.fails)
            async with aclosing(work) as chunks:
                async for chunk in chunks:
                    yield chunk
            parts = [part for part in parts if part.asks]
            if not self.have_answers(parts):
                return
            for part in parts:
                part.run_again()

    def have_answers(self, parts: Sequence[MemberPart]) -> bool:
        return all(call_id in self.turn.answers for part in parts for call_id in part.asks)

    def keep(self, parts: Sequence[MemberPart]) -> Keep:
        """What the team wants back behind the asks of these parts."""
        return Keep({part.call_id: part.kept for part in parts if part.kept is not None})

    @property
    def _for_members(self) -> Turn:
        """The turn, with what a member knows of the ones before."""
        history = [replace(past, steps=()) for past in self.turn.history]
        return replace(self.turn, history=history)


class _Planned(_TeamTurn):
    """The strategies `sequential` and `parallel`: each member has one task."""

    async def chunks(self) -> AsyncGenerator[AgentChunk, None]:
        is_parallel = self.team.strategy == "parallel"
        members = list(enumerate(self.team.members, 1))
        done: list[MemberPart] = []
        for batch in [members] if is_parallel else [[each] for each in members]:
            parts = []
            for number, member in batch:
                part = self._part(member, self._task(done), f"call_{self.turn.turn}_{number}")
                parts.append(part)
                if part.call_id not in self.called:
                    args = {"agent": member.agent_id, "task": part.task}
                    yield ToolCall(DELEGATE, args, part.call_id)
            async with aclosing(self.do([part for part in parts if not part.is_over])) as chunks:
                async for chunk in chunks:
                    yield chunk
            if not self.have_answers(parts):
                yield self.keep(parts)
                return
            done += parts
        yield self._answer(done, is_parallel=is_parallel)

    def _part(self, member: Member, task: str, call_id: str) -> MemberPart:
        call = self.called.get(call_id)
        if call is not None and call.args.get("agent") != member.agent_id:
            raise AgentError("the members of the team were changed while its turn waited")
        part = self.part(member, task, call_id)
        if call is not None and call.result is not None:
            part.finish(call.result, is_error=call.is_error)
        return part

    def _task(self, done: Sequence[MemberPart]) -> str:
        """The goal, with what the members before have to say: the last answer, and failures."""
        said: list[str] = []
        for part in reversed(done):
            if part.error is None:
                said.insert(0, f"{part.member.agent_id} answered:\n\n{part.answer}")
                break
            said.insert(0, f"{part.member.agent_id} failed: {part.error.message}")
        return "\n\n".join([self.turn.goal, *said])

    def _answer(self, done: Sequence[MemberPart], *, is_parallel: bool) -> str:
        """The answer of the team: the last one, or each under the name of its member."""
        good = [part for part in done if part.error is None]
        if not good:
            raise AgentError("every member of the team failed")
        if not is_parallel:
            return good[-1].text
        said = [
            f"## {part.member.agent_id}\n\n"
            + (part.answer if part.error is None else f"(failed: {part.error.message})")
            for part in done
        ]
        return "\n\n".join(said)


class _Led(_TeamTurn):
    """The strategy `hierarchical`: the lead gives the tasks, and answers."""

    def __init__(self, team: Team, turn: Turn, crew: Crew) -> None:
        super().__init__(team, turn, crew)
        self._members = {each.agent_id: each for each in team.members if each.agent_id != team.lead}
        lead = next(each for each in team.members if each.agent_id == team.lead)
        if any(tool.name == DELEGATE for tool in turn.client_tools):
            raise AgentError(f"a tool of the client is named {DELEGATE!r}, as the team's own")
        tools = [*turn.client_tools, self._tool()]
        self._lead = MemberPart(replace(turn, client_tools=tools), lead, turn.goal)
        self._lead.go_on(turn.so_far, self._kept.get(""))
        self._count = len(self.called)

    async def chunks(self) -> AsyncGenerator[AgentChunk, None]:
        lead = self._lead
        tasks = [
            ToolCall(DELEGATE, dict(call.args), call.call_id)
            for call in self.called.values()
            if call.result is None
        ]
        while True:
            parts = [self._task(task) for task in tasks]
            async with aclosing(self._done(parts)) as chunks:
                async for chunk in chunks:
                    yield chunk
            if not self.have_answers([lead, *parts]):
                yield self.keep([lead, *parts])
                return
            lead.run_again()
            async with aclosing(self.crew.work([lead], fails=True)) as chunks:
                async for chunk in chunks:
                    yield chunk
            tasks = list(lead.tasks)
            if not tasks and not lead.asks:
                return

    async def _done(self, parts: Sequence[MemberPart]) -> AsyncGenerator[AgentChunk, None]:
        """Have tasks done, and tell the lead of those that are over."""
        for part in parts:
            if part.is_over:
                yield part.result()
        async with aclosing(self.do([part for part in parts if not part.is_over])) as chunks:
            async for chunk in chunks:
                yield chunk
        for part in parts:
            if not part.asks:
                self._lead.settle(part)

    def _task(self, call: ToolCall) -> MemberPart:
        """The part of a task; one that nobody can do has failed."""
        agent_id, task = call.args.get("agent"), call.args.get("task")
        member = self._members.get(agent_id) if isinstance(agent_id, str) else None
        self._count += call.call_id not in self.called
        if member is None or not isinstance(task, str):
            part = self.part(Member("?"), "", call.call_id)
            names = ", ".join(self._members)
            part.finish(f"agent must be one of {names}, and task a text", is_error=True)
            return part
        part = self.part(member, task, call.call_id)
        if self._count > MAX_TASKS:
            part.finish(f"a turn has at most {MAX_TASKS} tasks", is_error=True)
        return part

    def _tool(self) -> ClientTool:
        """The tool by which the lead gives tasks."""
        members = [
            f"{each.agent_id} ({each.role})" if each.role else each.agent_id
            for each in self._members.values()
        ]
        return ClientTool(
            DELEGATE,
            "Give a task to a member of your team, and get the answer. The member knows nothing but"
            f" the task. Members: {', '.join(members)}.",
            {
                "type": "object",
                "properties": {
                    "agent": {"type": "string", "enum": list(self._members)},
                    "task": {"type": "string"},
                },
                "required": ["agent", "task"],
            },
        )

    @property
    def _for_members(self) -> Turn:
        return replace(self.turn, history=())
