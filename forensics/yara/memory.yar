/* What a process of a compromised container holds in memory and an honest one seldom does.  Strings only: each rule is
   a reason to take the process whole, not a verdict. */

rule miner_protocol
{
    meta:
        description = "Stratum, the protocol of mining pools, or the options of common miners"
        attack = "T1496.001"
    strings:
        $stratum = /stratum\+(tcp|ssl|tls):\/\// nocase
        $login = "\"method\":\"login\",\"params\":{\"login\":"
        $subscribe = "mining.subscribe"
        $donate = "--donate-level"
    condition:
        any of them
}

rule reverse_shell
{
    meta:
        description = "A shell tied to a network connection"
        attack = "T1059.004"
    strings:
        $devtcp = /(ba|z)?sh -i[^\n]{0,40}\/dev\/(tcp|udp)\// 
        $exec = /exec [0-9]+<>\/dev\/tcp\//
        $pty = "import pty;pty.spawn("
        $pty2 = "import pty; pty.spawn("
        $perl = "use Socket;$i="
    condition:
        any of them
}

rule container_escape
{
    meta:
        description = "Ways out of a container: the engine's socket, cgroup release agents, core patterns"
        attack = "T1611"
    strings:
        $create = "POST /containers/create"
        $v1 = /POST \/v1\.[0-9]{2}\/containers\/create/
        $agent = "/release_agent"
        $core = "/proc/sys/kernel/core_pattern"
    condition:
        any of ($create, $v1) or all of ($agent, $core)
}

rule preloaded_library
{
    meta:
        description = "A write to the dynamic linker's preload list"
        attack = "T1574.006"
    strings:
        $write = /(>>?|tee( -a)?) *\/etc\/ld\.so\.preload/
    condition:
        $write
}
