/* What a changed file of a compromised container holds and an honest one seldom does. */

rule web_shell_request_to_interpreter
{
    meta:
        description = "A page that hands a request to the interpreter or to a shell"
        severity = "critical"
        attack = "T1505.003"
        reason = "What a visitor sends is run."
        next = "Look for requests of this page in the web server's log."
    strings:
        $php = /\b(eval|assert|system|shell_exec|passthru|exec|popen|proc_open)\s{0,8}\(\s{0,8}@?(base64_decode\(|stripslashes\(|trim\()?\s{0,4}\$_(GET|POST|REQUEST|COOKIE)\b/ nocase
        $call = /\$_(GET|POST|REQUEST|COOKIE)\[[^\]\n]{1,64}\]\s{0,4}\(\s{0,4}@?\$_(GET|POST|REQUEST|COOKIE)/
        $jsp = /getRuntime\(\)\.exec\(\s{0,8}request\.getParameter/
        $asp = /\b(eval|execute)\s{0,4}\(?\s{0,4}request\s{0,4}(\.item|\.form|\.querystring)?\s{0,4}[\[\(]["'][\w]{1,32}["']/ nocase
    condition:
        filesize < 2MB and any of them
}

rule web_shell_packed
{
    meta:
        description = "A page whose code is unpacked and run"
        severity = "high"
        attack = "T1505.003 T1027"
        reason = "Pages have no cause to hide their own code."
        next = "Decode it on a machine made for that."
    strings:
        $php = "<?php" nocase
        $chain = /\b(eval|assert)\s{0,8}\(\s{0,8}@?(gzinflate|gzuncompress|str_rot13|base64_decode|hex2bin|strrev)\s{0,4}\(/ nocase
    condition:
        filesize < 4MB and $php and $chain
}

rule coin_miner_program
{
    meta:
        description = "A coin miner's program"
        severity = "critical"
        attack = "T1496.001"
        reason = "The program speaks the protocol of mining pools and knows their algorithms."
        next = "Its pool and wallet are in its configuration or arguments."
    strings:
        $stratum = "stratum+tcp://" nocase
        $ssl = "stratum+ssl://" nocase
        $donate = "donate-level"
        $rx = "randomx" nocase
        $cn = "cryptonight" nocase
        $job = "\"method\":\"login\""
        $sub = "mining.subscribe"
        $huge = "huge-pages"
    condition:
        uint32(0) == 0x464c457f and (($stratum or $ssl) and 1 of ($donate, $rx, $cn, $job, $sub, $huge) or 3 of ($donate, $rx, $cn, $job, $sub, $huge))
}

rule coin_miner_configuration
{
    meta:
        description = "A coin miner's configuration"
        severity = "critical"
        attack = "T1496.001"
        reason = "It names a mining pool, and a wallet that is paid."
        next = "Look for the process that reads it."
    strings:
        $pools = "\"pools\""
        $donate = "\"donate-level\""
        $stratum = /stratum\+(tcp|ssl|tls):\/\//
        $randomx = "\"randomx\""
        $xmr = /\b[48][0-9AB][1-9A-HJ-NP-Za-km-z]{93}\b/
    condition:
        filesize < 1MB and uint32(0) != 0x464c457f and (($pools and ($donate or $randomx)) or ($stratum and $xmr))
}

rule reverse_shell_script
{
    meta:
        description = "A script that ties a shell to the network"
        severity = "critical"
        attack = "T1059.004"
        reason = "Whoever answers at the other end gets a shell."
        next = "Look for connections to the address that it names."
    strings:
        $sh = /\b(ba|z|da|k)?sh -i[^\n]{0,40}\/dev\/(tcp|udp)\/[^\n]{1,80}/
        $fifo = /mkfifo [^\n]{1,80}\|\s?(\/bin\/)?(ba|da|z)?sh[^\n]{0,40}\|\s?(nc|ncat|netcat) /
        $nc = /\b(nc|ncat|netcat)\b[^\n]{0,80} -\w{0,4}e \/bin\/(ba|da|z)?sh/
        $python = /socket\.socket\([^\n]{0,200}os\.dup2\([^\n]{0,200}(subprocess|pty|os\.system)/
        $perl = /use Socket;[^\n]{0,200}exec\s?\{?["']\/bin\/(ba|da)?sh/
        $ruby = /TCPSocket\.(new|open)\([^\n]{0,160}(exec|IO\.popen)/
    condition:
        filesize < 1MB and any of them
}

rule upx_packed_program
{
    meta:
        description = "A program that was packed with UPX"
        severity = "high"
        attack = "T1027.002"
        reason = "Distributions do not pack their programs; attackers do, so that signatures don't fit."
        next = "`upx -d` unpacks a copy, if its headers were left alone."
    strings:
        $magic = "UPX!"
        $info = "This file is packed with the UPX"
    condition:
        uint32(0) == 0x464c457f and ($info or ($magic in (0..4096) and #magic >= 2))
}

rule process_hider
{
    meta:
        description = "A library that hides files or processes from others"
        severity = "critical"
        attack = "T1014 T1574.006"
        reason = "Loaded before the system's own library, it leaves names out of what readdir gives."
        next = "See /etc/ld.so.preload; list /proc from the host."
    strings:
        $readdir = "readdir64"
        $dlsym = "dlsym"
        $proc = "/proc/self/fd/%d"
        $stat = "/proc/%s/stat"
        $preload = "/etc/ld.so.preload"
    condition:
        uint32(0) == 0x464c457f and filesize < 2MB and $readdir and $dlsym and (($proc and $stat) or $preload)
}

rule credential_dumper
{
    meta:
        description = "A program that reads passwords out of memory or files"
        severity = "critical"
        attack = "T1003.007 T1003.008"
        reason = "It bears the name or the words of a tool that does nothing else."
        next = "See whether it ran, and which accounts were in use; change their passwords."
    strings:
        $mimipenguin = "mimipenguin" nocase
        $mimipy = "mimipy" nocase
        $lazagne = "laZagne" nocase
        $mem = "/proc/%d/mem"
        $maps = "/proc/%d/maps"
        $gnome = "gnome-keyring-daemon"
        $sshd = "sshd:"
    condition:
        filesize < 20MB and (any of ($mimipenguin, $mimipy, $lazagne) or (uint32(0) == 0x464c457f and $mem and $maps and $gnome and $sshd))
}

rule container_escape_tool
{
    meta:
        description = "A tool or script for leaving a container"
        severity = "critical"
        attack = "T1611"
        reason = "It uses a known way from a container to its host."
        next = "Look at the host: its cron, its keys, containers that were started."
    strings:
        $agent = "release_agent"
        $notify = "notify_on_release"
        $core = "/proc/sys/kernel/core_pattern"
        $sock = "/var/run/docker.sock"
        $create = "/containers/create"
        $binds = "\"Binds\":[\"/:/"
        $runc = "/proc/self/exe"
        $overwrite = "runcinit"
    condition:
        filesize < 20MB and (all of ($agent, $notify) or all of ($sock, $create, $binds) or ($core and $runc and $overwrite))
}

rule ssh_backdoor_key_writer
{
    meta:
        description = "A script that plants keys or accounts"
        severity = "high"
        attack = "T1098.004 T1136.001"
        reason = "Run once, it leaves a way to come back."
        next = "See whether it ran: authorized_keys, passwd, sudoers and crontabs tell."
    strings:
        $key = /(>>?|tee -a)\s{0,4}[^\n]{0,60}\.ssh\/authorized_keys/
        $rsa = "ssh-rsa AAAA"
        $ed = "ssh-ed25519 AAAA"
        $account = /echo [^\n]{0,80}:0:0:[^\n]{0,80}>>\s{0,4}\/etc\/passwd/
    condition:
        filesize < 1MB and (($key and ($rsa or $ed)) or $account)
}
