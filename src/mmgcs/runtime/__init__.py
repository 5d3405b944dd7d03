"""Running a bundle: onnxruntime, numpy, Pillow and tokenizers; never torch."""

from mmgcs.runtime.classifier import Classifier, Features, load

__all__ = ["Classifier", "Features", "load"]
