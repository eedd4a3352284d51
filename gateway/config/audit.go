package config

import "time"

// The words of an audit trail.
const (
	fsyncInterval  = "interval" // a decision does not wait for the disk
	fsyncAlways    = "always"
	usernamesPlain = "plain"
	usernamesHMAC  = "hmac"
)

// audit reads how the trail is kept.
func (o object) audit(stateDir string) Audit {
	o = o.sub("audit", fieldsOf[auditDoc]())
	a := DefaultAudit(stateDir)
	if dir := o.path("dir"); dir != "" {
		a.Dir = dir
	}
	a.Always = o.choice("fsync", fsyncInterval, fsyncInterval, fsyncAlways) == fsyncAlways
	a.HideUsernames = o.choice("usernames", usernamesPlain, usernamesPlain, usernamesHMAC) == usernamesHMAC
	a.MaxSize = o.number("max_size_mib", DefaultAuditMiB, 1, 1<<20) << 20
	a.Keep = time.Duration(o.number("keep_days", DefaultAuditDays, 1, 36500)) * day
	return a
}

func (a Audit) doc() auditDoc {
	d := auditDoc{Dir: a.Dir, Fsync: fsyncInterval, Usernames: usernamesPlain, MaxSizeMiB: a.MaxSize >> 20, KeepDays: int64(a.Keep / day)}
	if a.Always {
		d.Fsync = fsyncAlways
	}
	if a.HideUsernames {
		d.Usernames = usernamesHMAC
	}
	return d
}
