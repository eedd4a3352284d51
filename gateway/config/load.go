package config

import (
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"path/filepath"

	"jumpgate/gateway"
)

// Load reads and checks a configuration file and the files that it names.
// What is wrong with it comes back as an *Error or, if it is more than one
// thing, as Errors. Relative names are relative to the file that has them.
func Load(file string) (*Config, error) {
	r := &report{}
	src := &source{name: file, dir: filepath.Dir(absolute(file))}
	var err error
	if src.text, err = readFile(file, maxConfig, false); err != nil {
		hint := ""
		if errors.Is(err, fs.ErrNotExist) {
			hint = "name the file with -c; deploy/jumpgate.example.yaml is one to begin with"
		}
		r.errorf(place{src: src}, hint, "cannot read the configuration: %s", reason(err))
		return nil, r.err()
	}
	v, ok := parse(r, src)
	if !ok {
		return nil, r.err()
	}
	c := r.config(v, DefaultStateDir)
	c.File = file
	if err := r.err(); err != nil {
		return nil, err
	}
	c.Warnings = r.warnings
	return c, nil
}

// config reads the whole of a configuration. What it returns is complete only
// if the report has no errors.
func (r *report) config(v *value, stateDir string) *Config {
	o := r.object(v, "the configuration", fieldsOf[fileDoc]())
	if v.kind != mapping {
		return &Config{}
	}
	c := &Config{
		Listen:         o.listen("listen", DefaultListen),
		TLS:            o.tls(),
		Admin:          o.admin(),
		Redis:          &Redis{Embedded: true},
		TrustedProxies: o.prefixes("trusted_proxies"),
		StateDir:       o.path("state_dir"),
		Log:            o.log(),
	}
	if c.StateDir == "" {
		c.StateDir = absolute(stateDir)
	}
	c.Audit = o.audit(c.StateDir)
	if redis := o.get("redis"); redis != nil {
		c.Redis, _ = r.redis(redis, `"redis"`)
	}
	c.Limits = o.limits(c.Redis != nil && c.Redis.Embedded)
	if _, port, _ := net.SplitHostPort(c.Listen); c.Admin == c.Listen && port != "0" {
		o.errorf(o.place("admin"), "give each its own port", "admin and learners cannot share the address %s", c.Listen)
	}
	const hint = "a site needs at least wwwroot and upstream"
	if o.require("sites", "the configuration", hint) {
		sites := o.list("sites")
		if len(sites) == 0 && o.get("sites").kind == list {
			o.errorf(o.place("sites"), hint, `"sites" is empty`)
		}
		hosts := map[string]place{}
		for _, site := range sites {
			r.site(c, site, hosts)
		}
	}
	return c
}

func (o object) tls() *TLS {
	v := o.get("tls")
	if v == nil {
		return nil
	}
	o = o.object(v, `"tls"`, fieldsOf[tlsDoc]())
	t := &TLS{CertificateFile: o.path("certificate"), KeyFile: o.path("key")}
	if len(o.fields) == 0 && v.kind == mapping {
		o.require("certificate", `"tls"`, "give certificate and key, or remove tls to serve plain HTTP")
	}
	t.Certificate, _ = o.keyPair("certificate", "key", t.CertificateFile, t.KeyFile)
	return t
}

func (o object) admin() string {
	o = o.sub("admin", fieldsOf[adminDoc]())
	if v := o.get("listen"); v != nil && v.text == off {
		return ""
	}
	return o.listen("listen", DefaultAdmin)
}

const (
	off    = "off"    // the admin listener, or MNet
	strict = "strict" // MNet, as in Moodle: what is granted and nothing else
)

func (o object) log() Log {
	o = o.sub("log", fieldsOf[logDoc]())
	log := Log{Format: o.choice("format", FormatText, FormatText, FormatJSON)}
	log.Level = levels[o.choice("level", "info", "debug", "info", "warn", "error")]
	return log
}

var levels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
}

func (o object) limits(embedded bool) Limits {
	o = o.sub("limits", fieldsOf[limitsDoc]())
	perSite := int64(DefaultPendingJumpsPerSite)
	if embedded {
		perSite = DefaultPendingJumpsEmbedded
	}
	return Limits{
		PendingJumpsPerAddress: int(o.number("pending_jumps_per_address", DefaultPendingJumpsPerAddress, 1, 1e6)),
		PendingJumpsPerSite:    int(o.number("pending_jumps_per_site", perSite, 1, 1e7)),
		JumpsPerUser:           o.rate("jumps_per_user", DefaultJumpsPerUser),
		JumpsPerAddress:        o.rate("jumps_per_address", DefaultJumpsPerAddress),
		JumpsPerPeer:           o.rate("jumps_per_peer", DefaultJumpsPerPeer),
	}
}

// sub returns the object below a field; one without fields if it is absent.
func (o object) sub(key string, known []string) object {
	if v := o.get(key); v != nil {
		return o.object(v, `"`+key+`"`, known)
	}
	return object{report: o.report, at: o.at}
}

// wwwroot parses the wwwroot in a value.
func (r *report) wwwroot(v *value, name string) (gateway.Wwwroot, bool) {
	text, ok := r.plain(v, name)
	if !ok {
		return gateway.Wwwroot{}, false
	}
	w, err := gateway.ParseWwwroot(text)
	if err != nil {
		r.errorf(v.at, "copy it from $CFG->wwwroot in that site's config.php", "%s", err)
	}
	return w, err == nil
}
