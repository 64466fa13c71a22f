# %% [markdown]
# # A small transformer, and what it looks at
#
# `pip install "lrp_fx[pictures]"`
#
# The task: a row of digits ends with a question mark and a position, and the answer is the digit at that position. So it is known which token the
# answer depends on. After some seconds of training, relevance is asked.

# %%
import torch
from torch import nn

from lrp_fx import LRPFx, visualize

torch.manual_seed(0)
DIGITS, LENGTH = 10, 6


def rows(count):
    """(N, LENGTH + 1): digits, and then the position as a token 10 … 15; and the answer, (N,)."""
    digits, place = torch.randint(0, DIGITS, (count, LENGTH)), torch.randint(0, LENGTH, (count,))
    return (
        torch.cat([digits, DIGITS + place[:, None]], 1),
        digits[torch.arange(count), place],
        place,
    )


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.places = (
            nn.Embedding(DIGITS + LENGTH, 32),
            nn.Parameter(torch.randn(LENGTH + 1, 32)),
        )
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
            for _ in range(2)
        )
        self.head = nn.Linear(32, DIGITS)

    def forward(self, tokens):
        h = self.words(tokens) + self.places
        for layer in self.layers:
            h = layer(h)
        return self.head(h[:, -1])


model = Reader()
optimizer = torch.optim.Adam(model.parameters(), 3e-3)
for _ in range(400):
    tokens, answers, _ = rows(256)
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(tokens), answers).backward()
    optimizer.step()
model.eval()
tokens, answers, place = rows(128)
right = model(tokens).argmax(1) == answers
print(f"accuracy {right.float().mean():.0%}")

# %%
relevance = LRPFx(model).attribute(tokens, target=answers)  # (128, 7)
found = relevance[:, :LENGTH].argmax(1) == place
print(
    f"the most relevant digit is the one that was asked for in {found[right].float().mean():.0%} of the rows"
)
words = [str(int(t)) if t < DIGITS else f"which? {int(t) - DIGITS}" for t in tokens[0]]
assert found[right].float().mean() > 2 / LENGTH
visualize.tokens(words, relevance[0])
