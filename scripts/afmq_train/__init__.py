"""Trains LoRA adapters of afmq with PyTorch, on one process or many.

`afmq recover --launcher torchrun` runs this package, and `torchrun -m afmq_train job.json`
does the same without afmq. afmq writes the job: it reads and divides the text, initializes the
adapters, and evaluates and stores them in the end. This package makes the steps in between. It
continues from the saved state of afmq and saves the same, so that either of the two can go on.

    order.py    the order of the text, by the random numbers of Go
    model.py    the forward pass, of every family and stored form
    losses.py   losses and their gradients
    topk.py     the cache of the teacher's largest logits
    state.py    the saved state and its journal
    train.py    steps, evaluations, optimizer
"""

SCHEMA = "afmq.train-job/v1"
