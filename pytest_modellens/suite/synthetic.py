"""Prompts made of common words, of about the length wanted, without any tokenizer.

A common English word with the space before it is one token to the usual vocabularies (GPT-2's, Llama's, Qwen's), so n
words are about n tokens; the chat template adds its own. How many it really were is what the server reports.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from random import Random

__all__ = ["Length", "Synthetic"]

_TEXT = """
the and that have for not with you this but his from they say her she will one all would there their what out about
who get which when make can like time just him know take people into year your good some could them see other than
then now look only come its over think also back after use two how our work first well way even new want because any
these give day most us is are was were been has had said each many more very where much before right too means old
same tell does set three small end put home read hand large add land here must big high such follow act why ask men
change went light kind off need house picture try again animal point mother world near build self earth father head
stand own page should country found answer school grow study still learn plant cover food sun four between state keep
eye never last let thought city tree cross farm hard start might story saw far sea draw left late run while press
close night real life few north open seem together next white children begin got walk example ease paper group always
music those both mark often letter until mile river car feet care second book carry took science eat room friend began
idea fish mountain stop once base hear horse cut sure watch color face wood main enough plain girl usual young ready
above ever red list though feel talk bird soon body dog family direct pose leave song measure door product black short
class wind question happen complete ship area half rock order fire south problem piece told knew pass since top whole
king space heard best hour better true during hundred five remember step early hold west ground interest reach fast
verb sing listen six table travel less morning ten simple several toward war lay against pattern slow center love
person money serve appear road map rain rule govern pull cold notice voice unit power town fine certain fly fall lead
cry dark machine note wait plan figure star box field rest correct able done beauty drive stood contain front teach
week final gave green quick develop ocean warm free minute strong special mind behind clear tail produce fact street
inch nothing course stay wheel full force blue object decide surface deep moon island foot system busy test record
boat common gold possible plane dry wonder laugh thousand ago ran check game shape hot miss brought heat snow bring
yes fill east paint language among
"""
_WORDS = tuple(_TEXT.split())


@dataclass(frozen=True, slots=True)
class Length:
    """How long something is: normally distributed, drawn again while outside of its bounds."""

    mean: int
    stdev: float
    min: int
    max: int

    def draw(self, random: Random) -> int:
        """Return one length."""
        if not self.stdev:
            return self.mean
        # The mean is within the bounds, so a draw is only ever unlikely to be; the bound on trying is for narrow ones.
        for _ in range(1000):
            length = round(random.gauss(self.mean, self.stdev))
            if self.min <= length <= self.max:
                return length
        return self.mean


@dataclass(frozen=True, slots=True)
class Synthetic:
    """Prompts to be made up."""

    input_tokens: Length
    output_tokens: Length | None = None
    """None takes the case's own `max_tokens`."""
    shared_prefix: float = 0.0
    """Share of its tokens that a prompt begins with and has in common with the others."""
    ignore_eos: bool = False
    """Whether `ignore_eos: true` is sent."""
    seed: int = 0

    def prompt(self, number: int) -> tuple[str, int | None]:
        """Return prompt `number` (from 0) and its max_tokens; each number has its own, whatever was asked before.

        Two prompts differ as long as some words are not shared; of a handful of words, a few may be equal by chance.
        """
        random = Random(f"{self.seed}/{number}")  # noqa: S311 - a prompt, not a secret
        length = self.input_tokens.draw(random)
        most = None if self.output_tokens is None else self.output_tokens.draw(random)
        shared = round(length * self.shared_prefix)
        prefix = _shared_words(self.seed, self.input_tokens.max)[:shared] if shared else ()
        return " ".join((*prefix, *random.choices(_WORDS, k=length - shared))), most


@lru_cache(maxsize=8)
def _shared_words(seed: int, count: int) -> tuple[str, ...]:
    return tuple(Random(f"{seed}/shared").choices(_WORDS, k=count))  # noqa: S311
