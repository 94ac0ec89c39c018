"""Causal models of Hugging Face from a folder: tiny ones with random weights, made here."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from hamiltonian_rl.errors import UntrustedFileError, UsageError
from hamiltonian_rl.language.hugging_face import is_hugging_face_folder, open_hugging_face_model
from hamiltonian_rl.language.measurement import measure_symbols
from hamiltonian_rl.principles.information import velocity

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

TEXT = "the cat sat on the mat, and the rat sat on the cat; " * 60


def tokenizer_of(start=None, vocabulary=300):
    """A byte-level tokenizer trained on the text, which may put a sign in front."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<s>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([TEXT], trainer)
    if start:
        made.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>")


def written(folder, kind="gpt2", vocabulary=300, **tokenizer):
    torch.manual_seed(0)
    if kind == "gpt2":
        config = transformers.GPT2Config(vocab_size=vocabulary, n_positions=32, n_embd=16, n_layer=2, n_head=2)
    else:
        sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        config = transformers.LlamaConfig(vocab_size=vocabulary, max_position_embeddings=32, **sizes)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    model.save_pretrained(folder)
    tokenizer_of(**tokenizer).save_pretrained(folder)
    return model


def test_the_velocity_is_the_models_own_loss(tmp_path):
    theirs = written(tmp_path)
    ours = open_hugging_face_model(tmp_path)
    ids = ours.encode(TEXT.encode())[:20]
    assert ours.least_context == 1
    with torch.no_grad():
        loss = theirs(input_ids=torch.from_numpy(ids)[None], labels=torch.from_numpy(ids)[None]).loss
    assert np.nanmean(velocity(ours, ids[None])) == pytest.approx(float(loss), abs=1e-5)


def test_a_model_whose_texts_start_with_a_sign_knows_the_first_symbol_too(tmp_path):
    theirs = written(tmp_path, kind="llama", start=True)
    ours = open_hugging_face_model(tmp_path)
    assert (ours.start, ours.least_context, ours.longest_context) == (0, 0, 31)
    ids = ours.encode(TEXT.encode())[:20]
    assert ids[0] != 0  # the sign is not of the text
    shown = torch.from_numpy(np.concatenate([[0], ids]))[None]
    with torch.no_grad():
        loss = theirs(input_ids=shown, labels=shown).loss
    assert velocity(ours, ids[None]).mean() == pytest.approx(float(loss), abs=1e-5)


def test_it_is_measured_like_any_model(tmp_path, hrl):
    written(tmp_path / "model")
    ours = open_hugging_face_model(tmp_path / "model")
    ids = ours.encode(TEXT.encode())
    found = measure_symbols(ours, ids, len(TEXT), 16, 64, 0, lambda text: None)
    assert found.paired.contexts.tolist() == [1, 2, 4, 8, 16]
    assert found.bytes_a_symbol == pytest.approx(len(TEXT) / len(ids))
    # Random weights know nothing: all of the vocabulary is about as likely.
    np.testing.assert_allclose(found.paired.velocity, np.log(300), atol=0.3)
    (tmp_path / "text.txt").write_text(TEXT)
    arguments = "--model", tmp_path / "model", "--context", 16, "--targets", 64, "--run-dir", tmp_path / "runs"
    outcome = hrl("kinematics", "--text", tmp_path / "text.txt", *arguments)
    assert outcome.code == 0, outcome.err
    assert list(tmp_path.glob("runs/kinematics/text/0-*/information-text.png"))
    longer = hrl("kinematics", "--text", tmp_path / "text.txt", "--model", tmp_path / "model", "--context", 33)
    assert longer.code == 2
    assert "A context of 33 is longer than the 32 of model" in longer.err


def test_pickled_weights_are_refused_unless_trusted(tmp_path):
    model = written(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="has no weights"):
        open_hugging_face_model(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(UntrustedFileError, match=r"pickled \(pytorch_model\.bin\).*--trust"):
        open_hugging_face_model(tmp_path)
    assert open_hugging_face_model(tmp_path, trust=True).n_symbols == 300


def test_code_in_the_folder_does_not_run_unless_trusted(tmp_path):
    written(tmp_path)
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'marker')!r}, 'w')\nOwn = None\n")
    config = json.loads((tmp_path / "config.json").read_text())
    kinds = {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "own", "auto_map": kinds}))
    with pytest.raises(UsageError, match="cannot be loaded"):
        open_hugging_face_model(tmp_path)
    assert not (tmp_path / "marker").exists()


def test_a_tokenizer_with_symbols_that_the_model_does_not_know_is_refused(tmp_path):
    written(tmp_path, vocabulary=200)
    model = open_hugging_face_model(tmp_path)
    with pytest.raises(UsageError, match=r"its model knows those below 200.*own tokenizer"):
        model.encode(TEXT.encode())


def test_a_model_that_looks_ahead_is_refused(tmp_path):
    """transformers loads it without an error; its losses would be those of copying."""
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BertConfig(vocab_size=300, max_position_embeddings=32, **sizes)
    transformers.BertForMaskedLM(config).save_pretrained(tmp_path)
    tokenizer_of().save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="is not causal"):
        open_hugging_face_model(tmp_path)


def test_a_text_that_is_not_utf_8_is_refused(tmp_path):
    written(tmp_path)
    with pytest.raises(UsageError, match="not UTF-8"):
        open_hugging_face_model(tmp_path).encode("süß".encode("latin-1"))


def test_a_folder_that_holds_half_a_model_is_refused(tmp_path):
    assert not is_hugging_face_folder(tmp_path)
    written(tmp_path)
    assert is_hugging_face_folder(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(UsageError, match="cannot be loaded as a causal language model"):
        open_hugging_face_model(tmp_path)
    for file in tmp_path.glob("token*"):
        file.unlink()
    with pytest.raises(UsageError, match="cannot be loaded as a causal language model"):
        open_hugging_face_model(tmp_path)
