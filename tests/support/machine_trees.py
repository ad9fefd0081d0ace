"""/proc and /sys of a Raspberry Pi 4 and 5, a Coral Dev Board, a laptop and a container: the files that are read.

Formats: kernel documentation, admin-guide/pm/cpufreq.rst, driver-api/thermal/sysfs-api.rst, admin-guide/cgroup-v2.rst,
cgroup-v1, proc(5); Raspberry Pi documentation, "vcgencmd"; Coral's gasket driver, apex_driver.c.
"""

from __future__ import annotations

from pathlib import Path

Tree = dict[str, str]


def cpufreq(cpus: range, driver: str, governor: str, khz: int, max_khz: int) -> Tree:
    values = {
        "scaling_driver": driver,
        "scaling_governor": governor,
        "scaling_cur_freq": str(khz),
        "scaling_max_freq": str(max_khz),
    }
    return {
        f"sys/devices/system/cpu/cpu{cpu}/cpufreq/{name}": f"{value}\n"
        for cpu in cpus
        for name, value in values.items()
    }


def thermal_zone(number: int, kind: str, millidegrees: int, **trips: int) -> Tree:
    """Return a zone; `trips` are kinds with their temperatures."""
    start = f"sys/class/thermal/thermal_zone{number}"
    tree = {f"{start}/type": f"{kind}\n", f"{start}/temp": f"{millidegrees}\n"}
    for place, (name, value) in enumerate(trips.items()):
        tree[f"{start}/trip_point_{place}_type"] = f"{name}\n"
        tree[f"{start}/trip_point_{place}_temp"] = f"{value}\n"
    return tree


def cooling(number: int, kind: str, level: int) -> Tree:
    start = f"sys/class/thermal/cooling_device{number}"
    return {f"{start}/type": f"{kind}\n", f"{start}/cur_state": f"{level}\n", f"{start}/max_state": "3\n"}


# Two CPUs; the last of eight fields is steal, then come guests, which are part of user.
STAT = """cpu  300 20 100 5000 30 4 6 50 7 0
cpu0 100 10 50 2500 10 2 3 40 7 0
cpu1 200 10 50 2500 20 2 3 10 0 0
intr 10104539 0 0
ctxt 30657020
"""

PI4: Tree = {
    "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU part\t: 0xd08\n",
    "proc/meminfo": "MemTotal:        3884316 kB\n",
    "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
    "proc/loadavg": "0.42 0.30 0.10 1/150 1234\n",
    "proc/self/cgroup": "0::/user.slice/user-1000.slice/session-1.scope\n",
    "sys/fs/cgroup/cpu.stat": "usage_usec 1\nuser_usec 1\nsystem_usec 0\n",
    "sys/devices/platform/soc/soc:firmware/get_throttled": "50000\n",
    **cpufreq(range(4), "cpufreq-dt", "ondemand", 1_500_000, 1_500_000),
    **thermal_zone(0, "cpu-thermal", 61_835, critical=110_000),
}

PI5: Tree = {
    "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd fphp asimdhp asimddp\nCPU part\t: 0xd0b\n",
    "proc/meminfo": "MemTotal:        8255552 kB\n",
    "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
    "proc/loadavg": "1.00 0.80 0.40 2/180 999\n",
    # Its kernel has no get_throttled in /sys.
    "usr/bin/vcgencmd": "#!/bin/sh\n[ \"$1\" = get_throttled ] && echo 'throttled=0xe0008'\n",
    **cpufreq(range(4), "cpufreq-dt", "performance", 2_400_000, 2_400_000),
    **thermal_zone(0, "cpu-thermal", 81_500, critical=110_000, active=50_000),
    **cooling(0, "pwm-fan", 3),
}

CORAL: Tree = {
    "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid\nCPU part\t: 0xd03\n",
    "proc/meminfo": "MemTotal:        1023516 kB\n",
    "proc/device-tree/model": "Freescale i.MX8MQ Phanbell\0",
    "sys/class/apex/apex_0/temp": "86000\n",
    "sys/class/apex/apex_0/trip_point0_temp": "85000\n",
    **cpufreq(range(4), "cpufreq-dt", "ondemand", 1_000_000, 1_500_000),
    **thermal_zone(0, "cpu-thermal", 86_000, passive=85_000, critical=90_000),
    **cooling(0, "thermal-cpufreq-0", 1),
    **cooling(1, "gpio-fan", 1),
}

LAPTOP: Tree = {
    "proc/cpuinfo": "processor\t: 0\nmodel name\t: 12th Gen Intel(R) Core(TM) i7-1260P\nflags\t\t: fpu avx2 avx_vnni\n",
    "proc/meminfo": "MemTotal:       16077412 kB\n",
    "proc/loadavg": "2.10 1.50 1.00 3/900 4321\n",
    "sys/class/power_supply/AC/type": "Mains\n",
    "sys/class/power_supply/AC/online": "0\n",
    "sys/class/power_supply/BAT0/type": "Battery\n",
    "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "3\n",
    "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count": "4\n",
    "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "0\n",
    # CPUs 0 and 1 are one core, 2 and 3 another; 4 and 5 are little ones.
    **{f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list": "0-1\n" for cpu in (0, 1)},
    **{f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list": "2-3\n" for cpu in (2, 3)},
    **{f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list": f"{cpu}\n" for cpu in (4, 5)},
    **{f"sys/devices/system/cpu/cpu{cpu}/cpu_capacity": f"{1024 if cpu < 4 else 600}\n" for cpu in range(6)},
    **cpufreq(range(6), "intel_pstate", "powersave", 4_498_123, 4_700_000),
    **thermal_zone(0, "acpitz", 45_000, critical=105_000),
    **thermal_zone(1, "x86_pkg_temp", 62_000, passive=0),
    **thermal_zone(2, "acpitz", 20_000, passive=-274_000),
    **cooling(0, "Processor", 0),
}

CONTAINER: Tree = {
    "proc/cpuinfo": "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx2 avx512_vnni\n",
    "proc/meminfo": "MemTotal:       24684128 kB\n",
    "proc/loadavg": "8.71 8.42 7.89 11/185 31851\n",
    "proc/stat": STAT,
    "proc/self/cgroup": "0::/pod/box\n",
    "sys/fs/cgroup/cpu.stat": "usage_usec 1\n",
    "sys/fs/cgroup/pod/cpu.max": "400000 100000\n",
    "sys/fs/cgroup/pod/memory.max": "1073741824\n",
    "sys/fs/cgroup/pod/box/cpu.max": "150000 100000\n",
    "sys/fs/cgroup/pod/box/memory.max": "max\n",
    "sys/fs/cgroup/pod/box/cpu.stat": "usage_usec 5\nnr_periods 9\nnr_throttled 4\nthrottled_usec 2500000\n",
}

OLD_CONTAINER: Tree = {
    "proc/self/cgroup": "4:memory:/box\n1:cpu:/box\n0::/\n",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/cpu/cpu.stat": "nr_periods 9\nnr_throttled 4\nthrottled_time 1500000000\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
}


def plant(root: Path, tree: Tree) -> Path:
    """Return `root`, with the files of a tree in it."""
    for name, text in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if path.parent.name == "bin":
            path.chmod(0o755)
    return root
