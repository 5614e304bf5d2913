"""Batches for the teacher's recipe: pages by number, with labels and captions, later with questions."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from ...progress import track
from ..forms import crowded_form
from ..page import Page
from ..world import generate
from .blocks import BlockBuilder, Reading, easy_reading, sparse_reading
from .labels import PatchLabels, patch_labels
from .recipe import TeacherBatch, TeacherRecipe
from .tokens import PATCH_SIZE
