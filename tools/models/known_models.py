"""What the providers document of the models that may judge, apart from names, context windows and prices.

Those come from genai-prices; `cjstream models prices --write` puts both together. To add a model, add a row here. List
only parameters that the provider documents for the model: an unknown one would be refused, and end the run.

Compared on 2026-11-30 with the providers' model pages, effort and deprecation pages, and where those were silent with
the guides of gateways and clouds that serve the models. What none of them said is listed as unverified.
"""

from dataclasses import dataclass

WITHOUT_REASONING = 1_000  # tokens for an answer, several times what one needs
WITH_REASONING = 8_000  # thinking counts as output


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownProvider:
    """A provider. parameters: what each parameter is called in its API; a dot is one level down in the request."""

    name: str
    adapter: str
    base_url: str
    key_variable: str
    parameters: dict[str, str]
    temperature_max: float


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """A model. takes: parameters, in addition to max_tokens; retired_from: the first day without it.

    unverified: the fields whose values no source confirmed when the row was written.
    """

    provider: str
    model: str
    max_output_tokens: int
    answer_method: str
    takes: tuple[str, ...] = ()
    efforts: tuple[str, ...] = ()
    deprecated_from: str | None = None
    retired_from: str | None = None
    unverified: tuple[str, ...] = ()

    @property
    def answer_tokens(self) -> int:
        """The tokens that an answer may have unless a request wants another number."""
        return WITH_REASONING if self.efforts else WITHOUT_REASONING


OPENAI = KnownProvider(
    name="openai",
    adapter="openai_chat",
    base_url="https://api.openai.com/v1",
    key_variable="OPENAI_API_KEY",
    parameters={
        "max_tokens": "max_completion_tokens",
        "temperature": "temperature",
        "reasoning_effort": "reasoning_effort",
        "output_verbosity": "verbosity",
    },
    temperature_max=2.0,
)
ANTHROPIC = KnownProvider(
    name="anthropic",
    adapter="anthropic_messages",
    base_url="https://api.anthropic.com",
    key_variable="ANTHROPIC_API_KEY",
    parameters={
        "max_tokens": "max_tokens",
        "temperature": "temperature",
        "reasoning_effort": "output_config.effort",
    },
    temperature_max=1.0,
)
PROVIDERS = (OPENAI, ANTHROPIC)


def _openai(model: str, output: int, *takes: str, efforts: str = "") -> KnownModel:
    return KnownModel(
        provider=OPENAI.name,
        model=model,
        max_output_tokens=output,
        answer_method="json_schema",
        takes=takes,
        efforts=tuple(efforts.split()),
    )


def _anthropic(
    model: str,
    output: int,
    *takes: str,
    efforts: str = "",
    answer_method: str = "tool",
    deprecated_from: str | None = None,
    retired_from: str | None = None,
    unverified: str = "",
) -> KnownModel:
    return KnownModel(
        provider=ANTHROPIC.name,
        model=model,
        max_output_tokens=output,
        answer_method=answer_method,
        takes=takes,
        efforts=tuple(efforts.split()),
        deprecated_from=deprecated_from,
        retired_from=retired_from,
        unverified=tuple(unverified.split()),
    )


EFFORT, VERBOSITY, TEMPERATURE = "reasoning_effort", "output_verbosity", "temperature"
MODELS = (
    _openai("gpt-4o-mini", 16_384, TEMPERATURE),
    _openai("gpt-4.1", 32_768, TEMPERATURE),
    _openai("gpt-4.1-mini", 32_768, TEMPERATURE),
    _openai("gpt-4.1-nano", 32_768, TEMPERATURE),
    _openai("gpt-5", 128_000, EFFORT, VERBOSITY, efforts="minimal low medium high"),
    _openai("gpt-5-mini", 128_000, EFFORT, VERBOSITY, efforts="minimal low medium high"),
    _openai("gpt-5-nano", 128_000, EFFORT, VERBOSITY, efforts="minimal low medium high"),
    _openai("gpt-5.1", 128_000, EFFORT, VERBOSITY, efforts="none low medium high"),
    _openai("gpt-5.4", 128_000, EFFORT, VERBOSITY, efforts="none low medium high xhigh"),
    _openai("gpt-5.4-mini", 128_000, EFFORT, VERBOSITY, efforts="none low medium high xhigh"),
    _openai("gpt-5.4-nano", 128_000, EFFORT, VERBOSITY, efforts="none low medium high xhigh"),
    _openai("gpt-6-sol", 128_000, EFFORT, efforts="none low medium high xhigh max"),
    _openai("gpt-6-luna", 128_000, EFFORT, efforts="none low medium high xhigh max"),
    _openai("gpt-6.1-terra", 128_000, EFFORT, efforts="none low medium high xhigh max"),
    _anthropic("claude-haiku-4-5", 64_000, TEMPERATURE),
    _anthropic(
        "claude-sonnet-4-5",
        64_000,
        TEMPERATURE,
        retired_from="2026-11-30",
    ),
    _anthropic(
        "claude-opus-4-5",
        64_000,
        TEMPERATURE,
        deprecated_from="2026-11-23",
        retired_from="2027-01-22",
    ),
    _anthropic("claude-sonnet-4-6", 128_000, TEMPERATURE, EFFORT, efforts="low medium high max"),
    _anthropic("claude-opus-4-6", 128_000, TEMPERATURE, EFFORT, efforts="low medium high max"),
    _anthropic("claude-opus-4-7", 128_000, EFFORT, efforts="low medium high xhigh max"),
    _anthropic("claude-opus-4-8", 128_000, EFFORT, efforts="low medium high xhigh max"),
    # these think by default, and refuse a forced tool while they do
    _anthropic(
        "claude-haiku-5-5",
        128_000,
        EFFORT,
        efforts="low medium high xhigh max",
        answer_method="json_schema",
    ),
    _anthropic(
        "claude-sonnet-5-5",
        128_000,
        EFFORT,
        efforts="low medium high xhigh max",
        answer_method="json_schema",
        unverified="efforts",
    ),
    _anthropic(
        "claude-opus-5-5",
        128_000,
        EFFORT,
        efforts="low medium high xhigh max",
        answer_method="json_schema",
        unverified="efforts",
    ),
)
