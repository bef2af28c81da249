"""What the NAMD bundle needs beyond MONAI, Ignite, transformers and peft."""
