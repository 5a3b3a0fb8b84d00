"""The meaning of errors of servers of chat completions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import orjson

from ..calls import FailureKind, ModelFailure

#: Regular expressions for words in lower case, one a line; those of a kind below its name. A kind
#: that stands higher counts more, so some stand twice.
_TABLE = r"""
tool_count
    tools['"\]]*:? [^.]{0,20}array too long
    too many (tools|functions|function declarations)
    (more than|at most|up to|max of|maximum of|limit of) \d+ (tools|function)
    maximum number of (tools|function)
rate_limited
    throttl
    too many tokens, please wait
    too many tokens per (minute|day)
    too many requests
context
    context.{0,3}(length|size|window|limit)
    maximum (prompt|context|model|input|sequence) length
    (exceed|limit|length|long|large|maximum)[^.]{0,60}context
    context[^.]{0,40}(exceed|overflow|too (long|large))
    (prompt|input|request|messages?|conversation|content)[^.]{0,20} (is|are) too (long|large|big)
    (prompt|input|request)[^.]{0,4}[_ ]too[_ ](long|large)
    too long for (the )?(requested )?model
    too large for (the )?model
    exceed[^.]{0,30}(token|input|prompt)[^.]{0,20}(limit|length|allowed|count)
    token (count|length)[^.]{0,40}exceeds
    input_tokens?[^.]{0,60}exceed
    (maximum|max) (number of )?(input )?tokens[^.]{0,40}exceed
    number of tokens[^.]{0,60}(exceed|maximum)
    too many (input |prompt )?tokens
    tokens?[^.]{0,60}must be (<=|less than|at most)
    longer than the[^.]{0,40}length
    reduce (the|your) (length|size|number) of
    reduce your (message|prompt|input)
    range of input length
    request entity too large
    payload too large
    string_above_max_length
    prompt超长
quota
    insufficient[_ ]?(quota|balance|credit|fund)
    exceeded[_ ](your )?current[_ ](token )?quota
    exceeded_current_quota
    billing
    out of (credit|quota)
    (no|any|enough|sufficient|more|all|available|included|prepaid|remaining) (available )?credits?\b
    credits? (balance|limit|exhausted|depleted)
    credit[^.]{0,20}(too low|exhausted|insufficient|expired)
    balance[^.]{0,20}(too low|insufficient|not enough)
    (spending|spend|usage|monthly|budget|key) limit[^.]{0,12}(reached|exceeded|hit)
    (reached|exceeded|hit) (its|your|the) (monthly |weekly |daily )?(spend|budget|usage)
    good standing
    arrear
    payment
    account[^.]{0,30}(suspended|not active|deactivated|overdue)
    servicequotaexceeded
    余额不足|欠费
key
    (invalid|incorrect|wrong|bad|missing|malformed|expired|revoked)[_ ](or missing )?(api|access)
    (invalid|incorrect|wrong|bad|missing|malformed|expired|revoked)[_ ](auth|security|bearer|cred)
    (api|access|security|auth|bearer)[_ -]?(key|token)[^.]{0,30}(valid|incorrect|expired|revoked)
    (api|access|security|auth|bearer)[_ -]?(key|token)[^.]{0,30}(missing|required|not found|wrong)
    no (api[_ -]?key|auth)
    authentication[_ ](error|fail|required)
    (not|failed to) authenticat|unauthenticated|unauthorized
    unrecognizedclient|expiredtoken
tools
    does(n't| not) support (tools?|function)
    supports?(ing)? (for )?tool use
    tools?( use| calling| calls?)? (is|are) not (supported|available)
    function calling is not (supported|enabled)
model
    model_not_found|model_not_exist|modelnotfound|invalid_model|deploymentnotfound
    no models? loaded
    model[^.]{0,120}(not found|not exist|n't exist|is not available)
    (no such|unknown|invalid|unsupported) model
    no endpoints found
    deployment[^.]{0,60}does not exist
    access to the model
    not a valid model
filtered
    content[_ ]?(filter|policy|moderation|inspection)|content management policy
    data_inspection_failed|datainspectionfailed
    (flagged|blocked|rejected|refused)[^.]{0,60}(safety|moderation|polic|filter|guardrail)
    usage policies|sensitive (words|content)|prohibited_content|guardrail
unavailable
    overload|at capacity|over capacity|capacity exceeded|no capacity|high demand|high load
    (temporarily|currently|service) unavailable|not ready|try again later
    loading model|model is loading|currently loading|tool_use_failed|no instances available
rate_limited
    rate[_ -]?limit
    (requests|tokens) per (minute|second|day|min|hour)
    resource_exhausted|resource has been exhausted
    quota
"""

#: Characters of a provider's words that are kept.
MAX_WORDS = 1_000
_RETRY = re.compile(
    r"(?:retry|try again)[^0-9]{0,12}(?:in|after)\s*([0-9]+(?:\.[0-9]+)?)\s*(ms|milli|s|m)"
    r"|retrydelay\W{1,6}([0-9]+(?:\.[0-9]+)?)(s)"
)
_UNITS = {"ms": 0.001, "milli": 0.001, "s": 1.0, "m": 60.0}
#: Fields with a server's words for an error other than `error`; the first that is there counts.
_OTHER_NAMES = ("errors", "detail", "error_message", "error_msg", "message", "msg", "status_msg")
_PINGS = frozenset({"ping", "heartbeat", "keepalive", "keep-alive", "keep_alive"})
#: Kinds by the words of an error, for statuses of which the words may know more.
_SURER: Mapping[int, frozenset[FailureKind]] = {
    401: frozenset({"quota", "model", "filtered", "context"}),
    403: frozenset({"quota", "model", "filtered", "context"}),
    429: frozenset({"quota", "unavailable"}),
    500: frozenset({"context", "quota", "model", "key"}),
}
#: What these statuses say where the words do not.
_BY_STATUS: Mapping[int, FailureKind] = {
    401: "key",
    402: "quota",
    403: "key",
    404: "model",
    408: "unavailable",
    413: "context",
    425: "unavailable",
    429: "rate_limited",
    498: "unavailable",  # Groq has no room
}


def _phrases() -> Iterator[tuple[FailureKind, re.Pattern[str]]]:
    kinds: dict[str, FailureKind] = {kind: kind for kind in get_args(FailureKind)}
    for block in re.split(r"\n(?=\S)", _TABLE.strip()):
        kind, *lines = map(str.strip, block.splitlines())
        yield kinds[kind], re.compile("|".join(lines))


_PHRASES = tuple(_phrases())


def kind_of(words: str) -> FailureKind | None:
    """The kind of failure that words in lower case mean, if any."""
    for kind, phrases in _PHRASES:
        if phrases.search(words):
            return kind
    return None


def is_error(error: object) -> bool:
    """True if a field of that name means an error; some servers always send one."""
    return any(error.values()) if isinstance(error, dict) else bool(error)


def stream_failure(error: object, event: Mapping[str, Any] | None = None) -> ModelFailure:
    """The failure that an error inside a stream means. `event` is the whole event."""
    if isinstance(error, dict) and isinstance(error.get("error"), dict | str):
        event, error = error, error["error"]
    kind, code, message = _error_fields(error)
    if event is not None:
        code = code or str(event.get("code") or event.get("status") or "")
    words = f"{kind} {code} {message}".lower()
    status = int(code) if code.isdigit() and 400 <= int(code[:9]) < 600 else 0
    found = refusal_kind(status, words) or "unavailable"
    return ModelFailure(found, message, retry_after=_delay(words) if status == 429 else None)


def failure_in_other_words(event: Mapping[str, Any]) -> ModelFailure | None:
    """The failure that an event with neither an answer nor an `error` means, if any."""
    told = event.get("base_resp")  # MiniMax
    if isinstance(told, dict) and told.get("status_code"):
        return stream_failure(told.get("status_msg") or told)
    if str(event.get("type", "")).lower() in _PINGS:
        return None
    for name in _OTHER_NAMES:
        if event.get(name) and isinstance(event[name], str | list):
            return stream_failure({**event, "message": event[name]})
    if "error" in {event.get("object"), event.get("type"), event.get("status")}:
        return stream_failure(event)
    return None


def silent_failure(words: str) -> ModelFailure:
    """The failure of an answer that broke off. `words` are the text that was no event."""
    if words.lstrip().startswith("<"):
        return ModelFailure("unreadable", f"a page instead of a stream: {words}")
    said = "the stream ended before the answer did"
    kind = refusal_kind(0, words.lower()) or "unavailable"
    return ModelFailure(kind, f"{said}: {words}" if words else said)


def http_failure(status: int, body: bytes, retry_after: float | None) -> ModelFailure:
    """The failure that a refusal by HTTP means."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        parsed = body.decode("utf-8", "replace")
    if isinstance(parsed, list) and parsed and isinstance(parsed[0], dict):
        parsed = parsed[0]  # as Gemini writes it
    error, outer = parsed, ""
    if isinstance(parsed, dict):
        error = parsed.get("error") or next(
            (parsed[name] for name in _OTHER_NAMES if parsed.get(name)), parsed
        )
        outer = " ".join(str(parsed[name]) for name in ("type", "code") if parsed.get(name))
    kind, code, message = _error_fields(error)
    said = f"HTTP {status} {message}"[:MAX_WORDS]
    words = f"{kind} {code} {outer} {message}".lower()
    if retry_after is None:
        retry_after = _delay(f"{words} {body[: MAX_WORDS * 8].decode('utf-8', 'replace')}".lower())
    found = refusal_kind(status, words) or "refused"
    if found == "quota" and status == 429 and retry_after and "insufficient" not in words:
        found = "rate_limited"  # Gemini says "quota" for a limit that is over within a minute
    waits = found in {"rate_limited", "unavailable"}
    return ModelFailure(found, said, retry_after=retry_after if waits else None)


def refusal_kind(status: int, words: str) -> FailureKind | None:
    """The kind by the status where it is sure, else by the words; None if neither says anything."""
    by_words = kind_of(words)
    by_status = "unavailable" if status >= 500 else _BY_STATUS.get(status)
    if by_status is None or (status == 404 and by_words):
        return by_words
    if status == 429 and by_words == "context" and "too large" in words:
        return by_words  # more than the rate allows in any minute
    return by_words if by_words in _SURER.get(min(status, 500), ()) else by_status


def _delay(words: str) -> float | None:
    """The seconds after which to try again, where the words say so."""
    match = _RETRY.search(words)
    if match is None:
        return None
    number, unit = (match.group(1), match.group(2)) if match.group(1) else match.group(3, 4)
    return float(number) * _UNITS[unit]


def _error_fields(error: object) -> tuple[str, str, str]:
    """The type, code and message of an error."""
    if not isinstance(error, dict):
        return "", "", str(error)[:MAX_WORDS]
    kind = str(error.get("type") or error.get("status") or "")
    message = error.get("message") or error.get("msg") or error.get("detail") or error
    metadata = error.get("metadata")
    if isinstance(metadata, dict) and metadata.get("raw"):  # the words that OpenRouter got itself
        message = f"{message} {metadata['raw']}"
    return kind, str(error.get("code") or ""), str(message)[:MAX_WORDS]
