"""The parameters of A2A's requests. Where 0.3 has other names, both are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator

from ...agents.engines.http.endpoint import MAX_URL
from ...http.schemas import NO_NUL, Body, JsonObject, LongText

MOST_TASKS = 100
Id = Annotated[str, Field(min_length=1, max_length=255)]
#: A client's name of a push notification config, which stands in a path.
ConfigId = Annotated[str, Field(max_length=128, pattern=r"^[^/\x00-\x1f\x7f]*$")]
HistoryLength = Annotated[int, Field(ge=0)]
#: What may stand in a header. Together these two fit what is kept sealed: see `EndpointRecords`.
_Token = Annotated[
    str, Field(max_length=1_000, pattern=r"^([\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?)?$")
]
_Credentials = Annotated[
    str, Field(max_length=2_500, pattern=r"^([\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?)?$")
]
_Scheme = Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]*$")]
TaskState = Literal[
    "TASK_STATE_UNSPECIFIED", "TASK_STATE_SUBMITTED", "TASK_STATE_WORKING", "TASK_STATE_COMPLETED",
    "TASK_STATE_FAILED", "TASK_STATE_CANCELED", "TASK_STATE_INPUT_REQUIRED", "TASK_STATE_REJECTED",
    "TASK_STATE_AUTH_REQUIRED",
]  # fmt: skip


class _Parameters(Body):
    """Parameters. They may come from a query, where all is text, and null is as if not given."""

    model_config = ConfigDict(strict=False)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        return {name: each for name, each in value.items() if each is not None}


class TaskPart(BaseModel):
    text: LongText | None = None
    data: Any = None


class SentMessage(BaseModel):
    message_id: Id = Field(alias="messageId")
    context_id: str = Field(default="", alias="contextId", max_length=255)
    task_id: str = Field(default="", alias="taskId", max_length=255)
    parts: list[TaskPart] = Field(min_length=1, max_length=10_000)

    @property
    def text(self) -> str:
        return "".join(part.text or "" for part in self.parts)


class PushAuthentication(_Parameters):
    """How the receiver knows the server: 1.0 has one `scheme`, 0.3 the `schemes` that it takes."""

    scheme: _Scheme = ""
    schemes: Annotated[list[_Scheme], Field(max_length=20)] = Field(default_factory=list)
    credentials: _Credentials | None = None

    @property
    def name(self) -> str:
        return self.scheme or next(iter(self.schemes), "")


class PushConfig(_Parameters):
    """Where a task's changes are sent, and what proves to the receiver that they are of it."""

    id: ConfigId | None = None
    url: Annotated[str, Field(min_length=1, max_length=MAX_URL, pattern=NO_NUL)]
    token: _Token | None = None
    authentication: PushAuthentication | None = None

    def headers(self) -> dict[str, str]:
        """Those that each notification has."""
        found = {"X-A2A-Notification-Token": self.token} if self.token else {}
        given = self.authentication
        if given is not None and given.name and given.credentials:
            found["Authorization"] = f"{given.name} {given.credentials}"
        return found


class SendConfiguration(_Parameters):
    model_config = ConfigDict(strict=True)

    blocking: bool | None = None
    return_immediately: bool | None = Field(default=None, alias="returnImmediately")
    history_length: HistoryLength | None = Field(default=None, alias="historyLength")
    push: PushConfig | None = Field(
        default=None,
        validation_alias=AliasChoices("taskPushNotificationConfig", "pushNotificationConfig"),
    )


class SendBody(_Parameters):
    """The parameters of SendMessage."""

    model_config = ConfigDict(strict=True)

    message: SentMessage
    configuration: SendConfiguration = Field(default_factory=SendConfiguration)
    metadata: JsonObject | None = None


class TaskBody(_Parameters):
    """The parameters of what concerns one task."""

    id: Id
    history_length: HistoryLength | None = Field(default=None, alias="historyLength")


class ListBody(_Parameters):
    """The parameters of ListTasks."""

    context_id: str = Field(default="", alias="contextId", max_length=255)
    status: TaskState = "TASK_STATE_UNSPECIFIED"
    changed_since: str | None = Field(default=None, alias="statusTimestampAfter", max_length=64)
    page_size: int = Field(default=50, alias="pageSize", ge=1, le=MOST_TASKS)
    page_token: str | None = Field(default=None, alias="pageToken", max_length=512)
    history_length: HistoryLength = Field(default=0, alias="historyLength")
    include_artifacts: bool = Field(default=False, alias="includeArtifacts")


class SetPushBody(PushConfig):
    """The parameters of CreateTaskPushNotificationConfig."""

    task_id: Id = Field(alias="taskId")


class OldSetPushBody(_Parameters):
    """Those of 0.3."""

    task_id: Id = Field(alias="taskId")
    config: PushConfig = Field(alias="pushNotificationConfig")


class PushBody(_Parameters):
    """The parameters of what concerns one config, or all of a task."""

    task_id: Id = Field(alias="taskId")
    id: ConfigId = ""
    page_size: int = Field(default=MOST_TASKS, alias="pageSize", ge=0, le=1_000)
    page_token: ConfigId = Field(default="", alias="pageToken")


class OldPushBody(_Parameters):
    """Those of 0.3."""

    task_id: Id = Field(alias="id")
    id: ConfigId = Field(default="", alias="pushNotificationConfigId")
