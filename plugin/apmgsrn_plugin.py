"""The plugin for ParaView 5.12 and newer: load this file (Tools > Manage Plugins, or LoadPlugin).

It puts its own folder and the project's on sys.path and publishes the proxies of xml/*.xml.
ParaView 5.11 loads xml/apmgsrn.xml directly.
"""

import glob
import os
import sys

paraview_plugin_name, paraview_plugin_version = "APMGSRN", "0.1"
_here = os.path.dirname(os.path.abspath(__file__))
_root = os.path.dirname(_here)
sys.path[:0] = [folder for folder in (_here, _root) if folder not in sys.path]

for _path in sorted(glob.glob(os.path.join(_root, "xml", "*.xml"))):
    _name = "_xml_" + os.path.splitext(os.path.basename(_path))[0]
    with open(_path, encoding="utf-8") as _file:  # ParaView collects the objects that have this attribute
        globals()[_name] = type(_name, (), {"_pvsm_proxy_xml": _file.read()})
