package config

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"jumpgate/gateway"
)

// site reads one site into c. hosts has the places of the sites so far.
func (r *report) site(c *Config, v *value, hosts map[string]place) {
	o := r.object(v, "a site", siteFields)
	s := &Site{
		Upstream:         o.upstream("upstream"),
		UpstreamTimeout:  o.duration("upstream_timeout", DefaultUpstreamTimeout),
		Issuer:           o.choice("issuer", IssuerGateway, IssuerGateway, IssuerMoodle),
		KeyFile:          o.path("key"),
		PeersDir:         o.path("peers_dir"),
		certificateFiles: map[gateway.Wwwroot]string{},
		peerPositions:    map[gateway.Wwwroot]Position{},
	}
	s.MNet = o.mnet(s.PeersDir)
	s.Redirects = o.redirects()
	s.Landing = o.landing(s.Issuer)
	c.Sites = append(c.Sites, s)
	if v.kind != mapping {
		return
	}
	if o.require("wwwroot", "a site", "wwwroot: the public address of the Moodle, as in its config.php") {
		s.Wwwroot, _ = r.wwwroot(o.get("wwwroot"), `"wwwroot"`)
	}
	if !s.Wwwroot.IsZero() {
		if first, taken := hosts[s.Wwwroot.Hostname()]; taken {
			o.errorf(o.place("wwwroot"), hintHosts, "the host %s already has a site (%s)", s.Wwwroot.Hostname(), first.position())
		} else {
			hosts[s.Wwwroot.Hostname()] = o.place("wwwroot")
		}
		if s.Wwwroot.Scheme() == "http" && !s.Wwwroot.Loopback() {
			o.warnf(o.place("wwwroot"), "%s is served without TLS: anybody on the way can take over its sessions", s.Wwwroot)
		}
		s.Aliases = o.siteAliases(s.Wwwroot, hosts)
	}
	if o.require("upstream", "a site", "upstream: the address of the Moodle behind, such as http://127.0.0.1:8081") &&
		s.Upstream != nil && loops(c.Listen, s.Upstream) {
		o.errorf(o.place("upstream"), "give the address of the web server behind",
			"the upstream is the gateway itself, which listens on %s", c.Listen)
	}
	if s.KeyFile != "" {
		o.readSecret("key", s.KeyFile)
	}
	s.Identity = o.identity(c, s.Issuer)
	if s.Roam = o.access("roam"); s.Issuer == IssuerMoodle {
		o.unguarded("roam")
	}
	s.Unsigned, s.MaxLinkLife = o.unsigned(s.Issuer), o.days("max_link_life", DefaultMaxLinkLife)
	r.peers(o, s)
	s.checkLanding(o)
	o.bounce(s)
	s.Mail = o.mail(c, s)
	if s.MNet.Off && s.Peers != nil {
		s.Peers = s.Peers.Closed()
	}
}

const hintHosts = "sites are told apart by host: give each Moodle its own host name, or its own gateway"

// siteAliases reads the aliases of a site. Their hosts must be the site's own
// or nobody's.
func (o object) siteAliases(site gateway.Wwwroot, hosts map[string]place) []gateway.Wwwroot {
	var all []gateway.Wwwroot
	for _, item := range o.list("aliases") {
		alias, ok := o.wwwroot(item, "an alias")
		if !ok {
			continue
		}
		first, taken := hosts[alias.Hostname()]
		switch {
		case alias == site:
			o.errorf(item.at, "aliases are the site's other addresses: remove this one", "%s is the site itself", alias)
		case slices.Contains(all, alias):
			o.errorf(item.at, "keep one of them", "the alias %s is given twice", alias)
		case taken && first != o.place("wwwroot"):
			o.errorf(item.at, hintHosts, "the host %s already has a site (%s)", alias.Hostname(), first.position())
		default:
			all = append(all, alias)
			hosts[alias.Hostname()] = o.place("wwwroot")
		}
	}
	return all
}

var cookieName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$") // RFC 6265, section 4.1.1

// sourceOf says of a field which identity source it is for, if for one only.
var sourceOf = map[string]string{
	"redis": MoodleRedis, "prefix": MoodleRedis,
	"token_file": MoodleWeb, "token_env": MoodleWeb,
	"issuer": OIDC, "client_id": OIDC, "client_secret_file": OIDC, "client_secret_env": OIDC, "scopes": OIDC,
	"claims": OIDC, "username_strip": OIDC, "usernames_file": OIDC, "session": OIDC,
}

// identity reads the identity source of a site. Without one it is
// moodle-redis if there is a Redis that may hold Moodle's sessions, else
// moodle-web. What is wrong with it is reported whoever the issuer is, so that
// another issuer is one word away.
func (o object) identity(c *Config, issuer string) Identity {
	shared := c.Redis != nil && !c.Redis.Embedded
	o = o.sub("identity", identityFields)
	source := MoodleWeb
	if o.has("redis") || shared {
		source = MoodleRedis
	}
	id := Identity{
		Source:          o.choice("source", source, MoodleRedis, MoodleWeb, OIDC),
		Cookie:          o.text("cookie", DefaultCookie),
		MnetLocalhostID: o.number("mnet_localhost_id", 1, 1, 1<<53),
		MFA:             o.flag("mfa"),
		Prefix:          o.text("prefix", ""),
		SessionTimeout:  o.duration("session_timeout", DefaultSessionTimeout),
		TouchSessions:   o.flag("touch_sessions"),
	}
	if !cookieName.MatchString(id.Cookie) {
		o.errorf(o.place("cookie"), "Moodle calls it MoodleSession and appends $CFG->sessioncookie",
			"%q is not the name of a cookie", id.Cookie)
	}
	id.Token, id.TokenFile, id.TokenEnv = o.secret("token_file", "token_env")
	for _, key := range identityFields {
		if of := sourceOf[key]; o.has(key) && of != "" && of != id.Source {
			o.warnf(o.place(key), "%q does nothing with the identity source %s", key, id.Source)
		}
	}
	if id.Source == OIDC {
		id.OpenID = o.openID()
		if id.MFA {
			o.warnf(o.place("mfa"), "\"mfa\" is about Moodle's own logins: with the identity source oidc the provider asks for second factors")
		}
		if issuer == IssuerMoodle {
			o.errorf(o.place("source"), "say issuer: gateway, or leave the accounts at Moodle",
				"accounts at an OpenID provider are of no use to the issuer moodle, which knows its own alone")
		}
	}
	if id.TouchSessions && id.Source != MoodleRedis {
		o.errorf(o.place("touch_sessions"), "leave it out, or use the source moodle-redis",
			"sessions can be touched in Moodle's Redis alone, not with the identity source %s", id.Source)
	}
	if id.Source == MoodleRedis && !o.has("mfa") && issuer == IssuerGateway {
		o.warnf(o.place("mfa"), "\"mfa\" is not given: if Moodle asks for a second factor (tool_mfa), say mfa: true (--moodle-mfa), or learners jump without it")
	}
	if v := o.get("redis"); v != nil {
		id.Redis, _ = o.redis(v, `"redis"`)
	} else if shared {
		id.Redis = c.Redis
	}
	switch {
	case id.Source != MoodleRedis:
		id.Redis = nil
	case id.Redis != nil && id.Redis.Embedded:
		o.errorf(o.place("redis"), "give the Redis of Moodle's $CFG->session_redis_host",
			"Moodle cannot keep its sessions in the embedded Redis")
	case id.Redis == nil && c.Redis != nil && !o.has("redis"):
		o.errorf(o.place("source"), "add redis: with the Redis of Moodle's $CFG->session_redis_host, or use the source moodle-web",
			"moodle-redis needs the Redis that has Moodle's sessions, and the gateway's own one is embedded")
	}
	return id
}

// maxWindow keeps messages from being accepted for longer than the gateway
// remembers having seen them, which is a day: a message is good for as long
// before its timestamp as after.
const maxWindow = 12 * time.Hour

// mnet reads how a site speaks MNet.
func (o object) mnet(peersDir string) MNet {
	o = o.sub("mnet", fieldsOf[mnetDoc]())
	m := MNet{
		Off:             o.choice("dispatcher", strict, strict, off) == off,
		TimestampWindow: o.duration("timestamp_window", DefaultTimestampWindow),
		RotateKey:       o.choice("key_rotation", RotateAuto, RotateAuto, RotateManual) == RotateAuto,
	}
	if m.Off {
		o.warnf(o.place("dispatcher"), "MNet is switched off: every jump will be refused, and no peer is answered")
	}
	if m.TimestampWindow > maxWindow {
		o.errorf(o.place("timestamp_window"), "set the clocks of both sites instead", "\"timestamp_window\" is more than %s: a message could be replayed", duration(maxWindow))
	}
	if m.KeySecretFile = o.path("key_secret_file"); m.KeySecretFile != "" {
		if b, ok := o.readSecret("key_secret_file", m.KeySecretFile); ok {
			if m.KeySecret = Secret(strings.TrimSpace(string(b))); len(m.KeySecret) < minKeySecret {
				o.errorf(o.place("key_secret_file"), "openssl rand -hex 32 makes a good one", "the secret in %q has less than %d characters", "key_secret_file", minKeySecret)
			}
		}
	}
	switch m.RegisterAll = o.flag("register_all"); {
	case m.RegisterAll && peersDir == "":
		o.warnf(o.place("register_all"), "\"register_all\" does nothing without a peers_dir to write the peers to")
	case m.RegisterAll:
		o.warnf(o.place("register_all"), "register_all: every site that asks becomes a peer, without any grant until you give it one")
	}
	return m
}

// minKeySecret is 128 bits in hexadecimal digits.
const minKeySecret = 32

// The ways to change a key before it ends.
const (
	RotateAuto   = "auto"   // the gateway makes a new one
	RotateManual = "manual" // somebody runs jumpgate key rotate
)
