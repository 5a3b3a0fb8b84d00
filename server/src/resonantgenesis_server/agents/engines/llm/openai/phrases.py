"""The words by which servers of chat completions say what went wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import get_args

from ..calls import FailureKind

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


def _phrases() -> Iterator[tuple[FailureKind, re.Pattern[str]]]:
    kinds: dict[str, FailureKind] = {kind: kind for kind in get_args(FailureKind)}
    for block in re.split(r"\n(?=\S)", _TABLE.strip()):
        kind, *lines = map(str.strip, block.splitlines())
        yield kinds[kind], re.compile("|".join(lines))


_PHRASES = tuple(_phrases())


def kind_of(words: str) -> FailureKind | None:
    """What words in lower case tell of; None for nothing."""
    for kind, phrases in _PHRASES:
        if phrases.search(words):
            return kind
    return None
