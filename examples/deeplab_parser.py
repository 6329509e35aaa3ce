"""A parser architecture of torchvision, DeepLabV3 on MobileNetV3: train it, then evaluate with its checkpoint.

semfacediff train-parser parser=python parser.target=deeplab_parser:PARSER data=toy train.epochs=1
semfacediff evaluate parser.checkpoint=outputs/train_parser/...
"""

from torch import nn
from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large

from semfacediff.parsing.registry import IMAGENET_MEAN, IMAGENET_STD, Kind


class DeepLab(nn.Module):
    encoder = ("backbone",)

    def __init__(self, classes: int = 19):
        super().__init__()
        network = deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=classes)
        self.backbone, self.classifier = network.backbone, network.classifier

    def forward(self, photos):
        logits = self.classifier(self.backbone(photos)["out"])
        return nn.functional.interpolate(logits, photos.shape[-2:], mode="bilinear", align_corners=False)


PARSER = Kind(__name__, "DeepLab", head="classifier.4.bias", mean=IMAGENET_MEAN, std=IMAGENET_STD)
