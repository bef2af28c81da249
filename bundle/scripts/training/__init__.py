"""Parts of the training stages that MONAI's engines lack: batches, schedules, handlers, checkpoints, publishing."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "batches": ["LatentPrepareBatch", "prepare_baseline_batch", "prepare_crop_batch"],
        "engines": [
            "accelerate",
            "distribute",
            "epoch_sampler",
            "start_process_group",
            "stop_process_group",
            "warmup_cosine",
        ],
        "handlers": [
            "EpochSeed",
            "ExponentialAverage",
            "FreezePrompts",
            "GradientClip",
            "LearningRate",
            "train_handlers",
            "validation_handlers",
        ],
        "metrics": ["hu_error", "validation_loss"],
        "cases": ["trained_on", "write_training_cases"],
        "checkpointing": ["Checkpoint"],
        "record": ["MAY_CHANGE", "stage_record"],
        "stage": ["needed", "open_stage"],
        "progress": ["EpochLog", "Progress"],
        "publishing": ["publish", "publish_autoencoder", "publish_conditional"],
    },
)
