"""Methods that NAMD is compared with, one module each: they generate follow-ups, or give probabilities."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "contract": ["INPUTS", "Comparator", "Condition", "ImageMethod", "ProbabilityMethod"],
        "tables": ["COLUMNS", "HELD_OUT", "ComparatorError", "read_table", "table_record", "write_table"],
        "apply": ["write_probabilities"],
        "copy": ["CopyBaseline"],
        "published": ["published"],
        "regression": ["RecordRegression"],
        "record": ["RecordOnly", "record_regression"],
        "direct": ["DirectClassifier", "direct_items", "prepare_direct_batch", "publish_direct"],
        "namd": ["NAMD"],
        # compared methods with weights: a file names one of their classes, and only a public name is opened
        "generator": ["Generator", "load_generator"],
        "mcwgan": ["ImageLoss", "McWGAN", "PairCritic", "WassersteinTrainer"],
        "corrflownet": ["BridgeBatch", "CorrFlowNet", "CorrelationLoss", "PairAutoencoder", "prepare_both_times"],
        "told": ["ToldBridgeBatch", "ToldCorrFlowNet", "ToldMcWGAN"],
        "imageflownet": [
            *("FlowLoss", "ImageFlowNet", "StartPredicting", "TwoTimesBatch"),
            *("longest_interval", "needs_validation", "prediction_psnr", "reconstruction_psnr"),
        ],
        "batches": ["ConditionBatch", "PairBatch"],
        "generation": ["MethodInferer", "generation_record", "generation_settings"],
        "parts": ["built", "describe"],
        "text": ["TextEncoder"],
        "numbers": ["ConditionNumbers"],
        "adversarial": ["AdversarialAutoencoderTrainer", "FromStart", "begins_in_time", "discriminator"],
        "flux": ["Flux", "FlowInferer", "FlowPrepareBatch", "ReportedVelocity", "best_velocity", "initial_velocity"],
        "lora": ["LoRANetwork"],
        "ddl_cxr": ["DDLCXR", "Ramp", "RecordBatch", "RecordDenoiser", "RecordInferer", "RecordLoss", "with_unet"],
        "sd15": ["StableDiffusion"],
    },
)
