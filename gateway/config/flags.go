package config

import (
	"maps"
	"slices"
	"strings"
)

// Flags are enough to configure a gateway for one site without a file. The
// tags give each field the name of its flag, which errors use, and its help.
// An empty field takes the default.
type Flags struct {
	Listen                  string   `name:"listen" placeholder:"HOST:PORT" help:"Address to serve on (127.0.0.1:8080)."`
	AdminListen             string   `name:"admin-listen" placeholder:"HOST:PORT" help:"Address of health checks and metrics, or off (127.0.0.1:9180)."`
	Wwwroot                 string   `name:"wwwroot" placeholder:"URL" help:"Public address of the Moodle, as in its config.php."`
	Upstream                string   `name:"upstream" placeholder:"URL" help:"Where the Moodle behind answers."`
	Issuer                  string   `name:"issuer" placeholder:"WHO" help:"Who makes the tokens: gateway, or moodle (guard mode)."`
	Peers                   []string `name:"peer" sep:"none" placeholder:"WWWROOT[=CERT.pem|=SHA256:…]" help:"A site that learners may jump to; repeatable."`
	StateDir                string   `name:"state-dir" placeholder:"DIR" help:"Where the site's key is kept (./jumpgate-state)."`
	TrustedProxies          []string `name:"trusted-proxy" placeholder:"CIDR" help:"Address or range of a proxy in front; repeatable."`
	Key                     string   `name:"key" placeholder:"FILE" help:"Key pair to import as the site's MNet key."`
	Redis                   string   `name:"redis" placeholder:"URL" help:"Redis for the gateway's state, or embedded."`
	RedisPasswordFile       string   `name:"redis-password-file" placeholder:"FILE" help:"File with the password of that Redis."`
	MoodleRedis             string   `name:"moodle-redis" placeholder:"URL" help:"Redis that has Moodle's sessions, if it is another one."`
	MoodleRedisPasswordFile string   `name:"moodle-redis-password-file" placeholder:"FILE" help:"File with the password of that Redis."`
	MoodlePrefix            string   `name:"moodle-prefix" placeholder:"TEXT" help:"Moodle's session_redis_prefix."`
	MoodleCookie            string   `name:"moodle-cookie" placeholder:"NAME" help:"Name of Moodle's session cookie (MoodleSession)."`
	MoodleMFA               bool     `name:"moodle-mfa" help:"Moodle asks for a second factor (tool_mfa)."`
	MoodleTokenFile         string   `name:"moodle-token-file" placeholder:"FILE" help:"File with a token of Moodle's web services."`
	LogLevel                string   `name:"log-level" placeholder:"LEVEL" help:"debug, info, warn or error (info)."`
	LogFormat               string   `name:"log-format" placeholder:"FORMAT" help:"text or json (text)."`
}

// FromFlags makes the configuration of a gateway with one site. It checks
// what Load checks; errors name the flag instead of file, line and column,
// and relative file names are relative to the working directory.
func FromFlags(f Flags) (*Config, error) {
	r := &report{}
	for _, required := range []struct{ flag, text, hint string }{
		{"--wwwroot", f.Wwwroot, "give the public address of the Moodle, as in its config.php"},
		{"--upstream", f.Upstream, "give the address of the Moodle behind, such as http://127.0.0.1:8081"},
	} {
		if required.text == "" {
			r.errorf(place{flag: required.flag}, required.hint, "is missing")
		}
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	c := r.config(f.value(), DefaultStateDirFlags)
	if err := r.err(); err != nil {
		return nil, err
	}
	c.Warnings = r.warnings
	return c, nil
}

// value returns what a file that means the same as the flags would hold.
func (f Flags) value() *value {
	var mfa *value
	if f.MoodleMFA {
		mfa = &value{at: place{flag: "--moodle-mfa"}, kind: scalar, text: "true"}
	}
	return fields{
		"listen":          text("--listen", f.Listen),
		"admin":           fields{"listen": text("--admin-listen", f.AdminListen)}.value(),
		"redis":           redisFlags("--redis", f.Redis, f.RedisPasswordFile),
		"trusted_proxies": items(f.TrustedProxies, func(s string) *value { return text("--trusted-proxy", s) }),
		"state_dir":       text("--state-dir", f.StateDir),
		"log": fields{
			"level":  text("--log-level", f.LogLevel),
			"format": text("--log-format", f.LogFormat),
		}.value(),
		"sites": items([]Flags{f}, func(f Flags) *value {
			return fields{
				"wwwroot":  text("--wwwroot", f.Wwwroot),
				"upstream": text("--upstream", f.Upstream),
				"issuer":   text("--issuer", f.Issuer),
				"key":      text("--key", f.Key),
				"identity": fields{
					"redis":      redisFlags("--moodle-redis", f.MoodleRedis, f.MoodleRedisPasswordFile),
					"prefix":     text("--moodle-prefix", f.MoodlePrefix),
					"cookie":     text("--moodle-cookie", f.MoodleCookie),
					"mfa":        mfa,
					"token_file": text("--moodle-token-file", f.MoodleTokenFile),
				}.value(),
				"peers": items(f.Peers, peerFlag),
			}.value()
		}),
	}.value()
}

// peerFlag reads WWWROOT, WWWROOT=SHA256:… or WWWROOT=FILE.
func peerFlag(s string) *value {
	wwwroot, pin, pinned := strings.Cut(s, "=")
	scalar := func(s string) *value { return &value{at: place{flag: "--peer"}, kind: scalar, text: s} }
	f := fields{"wwwroot": scalar(wwwroot)}
	switch {
	case !pinned:
	case len(pin) >= 7 && strings.EqualFold(pin[:7], "SHA256:"):
		f["fingerprint"] = scalar(pin)
	default:
		f["certificate"] = scalar(pin)
	}
	return f.value()
}

// redisFlags is a Redis by its address and perhaps its password.
func redisFlags(flag, url, passwordFile string) *value {
	if passwordFile == "" {
		return text(flag, url)
	}
	return fields{
		"url":           text(flag, url),
		"password_file": text(flag+"-password-file", passwordFile),
	}.value()
}

// text is the text of a flag; nil if it is empty.
func text(flag, s string) *value {
	if s == "" {
		return nil
	}
	return &value{at: place{flag: flag}, kind: scalar, text: s}
}

// fields are those of a mapping; those with nil are not given.
type fields map[string]*value

func (f fields) value() *value {
	v := &value{kind: mapping}
	for _, key := range slices.Sorted(maps.Keys(f)) {
		if f[key] != nil {
			v.fields = append(v.fields, field{key, f[key].at, f[key]})
			v.at = f[key].at
		}
	}
	return v
}

func items[T any](all []T, item func(T) *value) *value {
	v := &value{kind: list}
	for _, one := range all {
		if i := item(one); i != nil {
			v.items = append(v.items, i)
			v.at = i.at
		}
	}
	return v
}
