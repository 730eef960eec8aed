"""Make this checkout importable in its virtual environment, and create the `loyalpro` command there."""

import sys
import sysconfig
from pathlib import Path

root = Path(__file__).resolve().parent.parent
Path(sysconfig.get_path("purelib"), "loyalpro.pth").write_text(f"{root / 'src'}\n")
command = Path(sys.executable).with_name("loyalpro")
command.write_text(f"#!{sys.executable}\nfrom loyalpro.cli.main import app\n\napp()\n")
command.chmod(0o755)
