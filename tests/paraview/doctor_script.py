"""Run by test_doctor.py as `pvpython doctor_script.py plugin.xml [port]`: what the proxies say of the installation."""

from paraview import simple

# fmt: off
import os
import sys
# fmt: on


def main(plugin, port=""):
    if port:
        simple.Connect("localhost", int(port))
    if not hasattr(simple, "NeuralVolume"):
        simple.LoadPlugin(plugin, remote=bool(port), ns=vars(simple))
    volume = simple.NeuralVolume()
    volume.UpdatePropertyInformation()
    loaded = sorted({"torch", "apmgsrn_core.diagnosis.examination"} & set(sys.modules))
    os.write(1, f"BEFORE {loaded} {volume.GetPropertyValue('Installation')}\n".encode())
    volume.SMProxy.InvokeCommand("CheckInstallation")
    volume.UpdatePropertyInformation()
    os.write(1, f"AFTER\n{volume.GetPropertyValue('Installation')}\nEND\n".encode())
    os.write(1, f"CLIENT {'torch' in sys.modules}\n".encode())


main(*sys.argv[1:3])
