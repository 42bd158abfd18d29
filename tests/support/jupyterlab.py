"""A JupyterLab server on loopback, and a headless Chromium that shows it."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

PATIENCE = 120.0

_OPTIONS = (
    "--no-browser",
    "--allow-root",
    "--port=0",
    "--LabApp.expose_app_in_browser=True",  # as window.jupyterapp, to run its commands
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.extension_manager=readonly",
)
_NO_NEWS = ("@jupyterlab/apputils-extension/notification.jupyterlab-settings", '{"fetchNews": "false"}')
_HIDE_WIDGETS = "import sys\nsys.modules['ipywidgets'] = None\n"


@contextlib.contextmanager
def jupyterlab(folder: Path, home: Path, *, has_widgets: bool = True) -> Iterator[str]:
    """Serve a folder in JupyterLab with no settings of the user's; yield its address, with the token.

    Without widgets, a kernel cannot import ipywidgets, as if it were not installed.
    """
    startup = home / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    if not has_widgets:
        (startup / "hide_widgets.py").write_text(_HIDE_WIDGETS)
    news, answer = _NO_NEWS
    (home / "settings" / news).parent.mkdir(parents=True)
    (home / "settings" / news).write_text(answer)
    places = {"IPYTHONDIR": "ipython", "JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data"}
    places |= {"JUPYTER_RUNTIME_DIR": "runtime", "JUPYTERLAB_SETTINGS_DIR": "settings"}
    places |= {"JUPYTERLAB_WORKSPACES_DIR": "workspaces"}
    environment = os.environ | {name: str(home / place) for name, place in places.items()}
    token = secrets.token_hex(16)
    options = (*_OPTIONS, f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}")
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *options], env=environment, stderr=subprocess.PIPE, text=True
    )
    assert server.stderr is not None
    with server, server.stderr:
        try:
            for line in server.stderr:
                if "http://127.0.0.1:" in line:
                    yield line.split()[-1].partition("/lab")[0] + f"/lab/tree/{{}}?token={token}"
                    return
            raise AssertionError(f"JupyterLab ended with status {server.wait()}")
        finally:
            server.terminate()


class Browser:
    """A headless Chromium that has a notebook open in JupyterLab."""

    def __init__(self, profile: Path) -> None:
        options = webdriver.ChromeOptions()
        for each in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,1000"):
            options.add_argument(each)
        options.add_argument(f"--user-data-dir={profile}")
        options.binary_location = "/usr/bin/chromium"
        self._driver = webdriver.Chrome(
            options=options, service=webdriver.ChromeService("/usr/bin/chromedriver")
        )
        self._driver.set_script_timeout(PATIENCE)

    def close(self) -> None:
        self._driver.quit()

    def open(self, address: str) -> None:
        """Open a notebook, and wait until its kernel is idle."""
        self._driver.get(address)
        self.until(
            "return window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status == 'idle'"
        )

    def command(self, name: str, **arguments: Any) -> None:
        """Run a command of JupyterLab, and wait for its end."""
        self._driver.execute_async_script(
            "window.jupyterapp.commands.execute(arguments[0], arguments[1]).then(arguments[2], arguments[2])",
            name,
            arguments,
        )

    def run_all(self) -> None:
        """Begin to run all cells, with no outputs of an earlier run."""
        self.command("notebook:clear-all-cell-outputs")
        self.until("return document.querySelectorAll('.jp-OutputArea-output').length == 0")
        self.script("window.jupyterapp.commands.execute('notebook:run-all-cells')")

    def theme(self, name: str) -> None:
        """Change the theme, and wait until the page shows it."""
        self.command("apputils:change-theme", theme=name)
        self.until(
            "return document.body.dataset.jpThemeName == arguments[0] && !document.getElementById('jupyterlab-splash')",
            name,
        )

    def next_frame(self) -> None:
        """Wait until the page is drawn again."""
        self._driver.execute_async_script("requestAnimationFrame(arguments[0])")

    def script(self, source: str, *arguments: Any) -> Any:
        return self._driver.execute_script(source, *arguments)

    def until(self, source: str, *arguments: Any) -> Any:
        """Wait until a script returns something true; return that."""
        return WebDriverWait(self._driver, PATIENCE, 0.05).until(
            lambda driver: driver.execute_script(source, *arguments), source
        )

    def screenshot(self, path: Path, selector: str) -> None:
        """Save a picture of the page, with an element in its middle."""
        self.script("document.querySelector(arguments[0]).scrollIntoView({block: 'center'})", selector)
        self.next_frame()
        self._driver.save_screenshot(str(path))
