"""The panel of Train Neural Volume, as xml/ describes it."""

import xml.etree.ElementTree as ElementTree
from dataclasses import fields

import pytest
from test_layout import ROOT, proxies, xml_default

from apmgsrn_core import Aim


@pytest.fixture
def trainer():
    root = ElementTree.parse(ROOT / "xml" / "apmgsrn.xml").getroot()
    return next(proxy for proxy in proxies(root) if proxy.get("name") == "TrainNeuralVolume")


def test_the_defaults_of_the_wishes_are_those_of_the_core(trainer):
    found = {e.get("name"): xml_default(e) for e in trainer if e.tag.endswith("VectorProperty")}
    names = {"aim": "Aim", "target_ratio": "TargetRatio", "target_bytes": "TargetBytes", "target_psnr": "TargetPSNR"}
    assert {names[f.name]: f.default for f in fields(Aim)}.items() <= found.items()


def test_every_property_is_in_a_group_once(trainer):
    names = {e.get("name") for e in trainer if e.tag.endswith("Property")} - {"Input", "Step", "DeviceInfo"}
    grouped = [p.get("name") for group in trainer.findall("PropertyGroup") for p in group]
    assert sorted(names) == sorted(grouped)
