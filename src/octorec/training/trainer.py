"""The trainer runs AdamW on the mean NLL of the target's codes, with warm-up, cosine decay and expert-bias balancing.

The state between two steps is a folder that is replaced as a whole, so that an interrupted training resumes with the
same bits: weights, both moments, and the step, which alone decides what comes next.

On a GPU a step is one CUDA graph: the host hands over the examples' numbers and the learning rate, and starts it.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from octorec.errors import InputError, MismatchError, shown
from octorec.files import json_text, read_json
from octorec.formats import TRAINING
from octorec.models.onerec import OneRecV2
from octorec.output.write import new_folder
from octorec.training.balance import ExpertBalance
from octorec.training.config import TrainConfig
from octorec.training.dropout import add_dropout
from octorec.training.examples import TrainingSet, drop_items
from octorec.training.schedule import bias_rate, learning_rate

OnStep = Callable[[dict[str, Any]], None]  # called with what was measured after a step
STATE = "state.json"  # says what `state.safetensors` beside it holds
EAGER = 3  # steps before a GPU's step is captured: libraries allocate and choose their kernels in them


class Trainer:
    """A Trainer trains `model` in place on `data`. `run` goes on from whatever step the trainer stands at."""

    def __init__(self, model: OneRecV2, data: TrainingSet, config: TrainConfig):
        self.model, self.data, self.config = model, data, config
        self.step = 0
        self.device = data.target.device
        on_gpu = self.device.type == "cuda"
        self.optimizer = torch.optim.AdamW(
            _parameter_groups(model, config.weight_decay),
            lr=torch.tensor(config.learning_rate, device=self.device) if on_gpu else config.learning_rate,
            betas=(0.9, 0.98),
            fused=True,
            capturable=on_gpu,
        )
        self.balance = ExpertBalance(model)
        if config.dropout:
            add_dropout(model, config.dropout)
        self.history: list[dict[str, Any]] = []
        self._order: tuple[int, Tensor] | None = None  # an epoch and its permutation of the examples
        self._index = torch.empty(config.batch_size, dtype=torch.long, device=self.device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._loss = torch.zeros((), device=self.device)
        self._eager = 0  # steps taken without a graph

    def run(
        self,
        state: Path | None = None,
        validate: Callable[[OneRecV2], dict[str, float]] | None = None,
        on_step: OnStep | None = None,
    ) -> list[dict[str, Any]]:
        """Train up to config.steps. state: folder to save into every `save_every` steps.

        validate: measures the model every `validate_every` steps and at the end. on_step: called after every step with
        step, loss, and where they were taken recall and expert load. Returns those records, one a validation.
        """
        config = self.config
        while self.step < config.steps:
            loss = self.one_step()
            last = self.step == config.steps
            record: dict[str, Any] = {"step": self.step, "loss": loss}
            if last or self.step % config.validate_every == 0:
                record["expert_load"] = self.balance.load()
                if validate is not None:
                    self.model.eval()
                    record.update(validate(self.model))
                    self.model.train()
                self.history.append(record)
            if state is not None and not last and self.step % config.save_every == 0:
                self.save(state)
            if on_step is not None:
                on_step(record)
        return self.history

    def one_step(self) -> float:
        """Take a step; the loss before it."""
        for group in self.optimizer.param_groups:
            rate = learning_rate(self.step, self.config)
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        self.balance.rate.fill_(bias_rate(self.step, self.config))
        self._index.copy_(self._examples())
        if self.config.dropout or self.config.history_drop:
            torch.manual_seed(self.config.seed * 1_000_003 + self.step)  # a graph's replay follows it too
        if self.device.type == "cuda":
            self._step_on_gpu()
        else:
            self._loss = self._update()
        self.step += 1
        return float(self._loss)

    def _update(self) -> Tensor:
        """Do forward, backward and the optimiser's step on the examples `_index`; return the loss before it."""
        config = self.config
        context, codes = self.data.batch(self._index, self.model.config.max_context)
        if config.history_drop:
            context = drop_items(context, config.history_drop)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            loss = nll(self.model(context, codes), codes, config.label_smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        self.optimizer.step()
        self.balance.update()
        return loss.detach()

    def _step_on_gpu(self) -> None:
        """Replay the step's graph; the first EAGER steps run on a stream of their own, as a capture wants it."""
        if self._eager < EAGER:
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self._loss = self._update()
            torch.cuda.current_stream().wait_stream(stream)
            self._eager += 1
            return
        if self._graph is None:
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._loss = self._update()
        self._graph.replay()

    def _examples(self) -> Tensor:
        """Return this step's examples: every epoch is a permutation that the seed and its number decide."""
        size, n = self.config.batch_size, len(self.data)
        positions = torch.arange(self.step * size, (self.step + 1) * size)
        out = torch.empty(size, dtype=torch.long)
        for epoch in (positions // n).unique().tolist():
            here = positions // n == epoch
            out[here] = self._permutation(epoch)[positions[here] % n]
        return out

    def _permutation(self, epoch: int) -> Tensor:
        if self._order is None or self._order[0] != epoch:
            generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + epoch)
            self._order = epoch, torch.randperm(len(self.data), generator=generator)
        return self._order[1]

    def save(self, folder: Path) -> None:
        """Write the whole state into `folder`, replacing what is there at the end."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"optimizer.{name}.{key}"] = value
        for index, count in enumerate(self.balance.counts):
            tensors[f"balance.{index}"] = count
        with new_folder(folder, force=True) as scratch:
            save_file(
                {name: t.detach().cpu().contiguous() for name, t in tensors.items()}, scratch / "state.safetensors"
            )
            about = {**TRAINING.stamp(), "step": self.step, "history": self.history, **self._identity()}
            (scratch / STATE).write_text(json_text(about, indent=1))

    def restore(self, folder: Path) -> None:
        """Go on from a folder that `save` wrote, with the same configuration and data."""
        about = _read_state(folder)
        for name, value in self._identity().items():
            if about.get(name) != value:
                raise MismatchError(f"resume: {name}", value, f"the saved training had {shown(about.get(name))}")
        if not isinstance(about.get("step"), int):
            raise InputError("resume", str(folder), "holds no saved training state")
        try:
            self._take(load_file(folder / "state.safetensors"))
        except (SafetensorError, OSError, KeyError, RuntimeError) as error:
            raise InputError("resume", str(folder), f"holds a damaged state.safetensors ({error})") from error
        self.step, self.history = about["step"], about.get("history", [])

    def _take(self, tensors: dict[str, Tensor]) -> None:
        """Set weights, the optimiser's state and the balance's counts to what `save` wrote."""
        self.model.load_state_dict({name[6:]: t for name, t in tensors.items() if name.startswith("model.")})
        for name, parameter in self.model.named_parameters():
            prefix = f"optimizer.{name}."
            self.optimizer.state[parameter] = {
                key.removeprefix(prefix): value.to(parameter.device)
                for key, value in tensors.items()
                if key.startswith(prefix)
            }
        self.balance.counts = [tensors[f"balance.{i}"].to(c.device) for i, c in enumerate(self.balance.counts)]

    @cached_property
    def _digest(self) -> str:
        return self.data.digest()

    def _identity(self) -> dict[str, Any]:
        """Return what must be the same for a resumed training to be the same training."""
        model = json.loads(json.dumps(self.model.config.to_dict()))
        return {"train_config": asdict(self.config), "model_config": model, "examples": self._digest}


def require_state(folder: Path) -> None:
    """Refuse a folder without a saved training state."""
    if not (folder / STATE).exists():
        raise InputError("resume", str(folder), "holds no saved training state")


def saved_step(folder: Path) -> int | None:
    """Return the step at which the state in `folder` stands; None where there is none that could be resumed."""
    try:
        return _read_state(folder).get("step")
    except InputError:
        return None


def _read_state(folder: Path) -> dict[str, Any]:
    require_state(folder)
    about = read_json(folder / STATE, "resume")
    TRAINING.check(f"resume: {folder / STATE}", about)
    return about


def nll(logits: list[Tensor], codes: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the mean negative log-likelihood of the codes [B, L] over requests and levels (arXiv
    2508.20900, the loss).
    """
    losses = [F.cross_entropy(level, codes[:, i], label_smoothing=label_smoothing) for i, level in enumerate(logits)]
    return torch.stack(losses).mean()


def _parameter_groups(model: OneRecV2, weight_decay: float) -> list[dict[str, Any]]:
    """Return parameter groups with weight decay on matrices alone: not on norms, embeddings, positions."""
    decayed: list[Tensor] = []
    plain: list[Tensor] = []
    for name, parameter in model.named_parameters():
        (decayed if "proj" in name or "router" in name else plain).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
