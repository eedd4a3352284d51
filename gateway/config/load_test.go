package config

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"jumpgate/gateway"
)

const minimal = `
sites:
  - wwwroot: https://idp.example.org
    upstream: http://127.0.0.1:8081
`

func wwwroot(t testing.TB, s string) gateway.Wwwroot {
	t.Helper()
	w, err := gateway.ParseWwwroot(s)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// compare compares configurations by what other packages see of them.
var compare = cmp.Options{
	cmp.Comparer(func(a, b gateway.Wwwroot) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b gateway.Destination) bool { return a == b }),
	cmp.Transformer("peers", func(l *gateway.Allowlist) []*gateway.Peer { return l.Peers() }),
	cmp.Transformer("PEM", func(c *gateway.Certificate) string {
		if c == nil {
			return ""
		}
		return c.PEM()
	}),
	cmp.Transformer("entries", func(u *gateway.UserList) []string {
		if u == nil {
			return nil
		}
		return u.Entries()
	}),
	cmp.Transformer("homes", func(m *gateway.MailHomes) map[string]gateway.Wwwroot {
		homes := map[string]gateway.Wwwroot{}
		if m != nil {
			for _, h := range m.Homes() {
				for _, entry := range h.Entries {
					if homes[entry] = (gateway.Wwwroot{}); h.Home != nil {
						homes[entry] = h.Home.Wwwroot
					}
				}
			}
		}
		return homes
	}),
	cmpopts.IgnoreUnexported(Site{}),
	cmp.AllowUnexported(gateway.Usernames{}, gateway.AccountNames{}),
	cmpopts.IgnoreTypes(tls.Certificate{}, &tls.Config{}),
}

func TestWhatAFileLeavesOutHasADefault(t *testing.T) {
	testDir(t)
	want := &Config{
		File:     "jumpgate.yaml",
		Listen:   "127.0.0.1:8080",
		Admin:    "127.0.0.1:9180",
		Redis:    &Redis{Embedded: true},
		StateDir: "/var/lib/jumpgate",
		Log:      Log{Level: slog.LevelInfo, Format: "text"},
		Limits:   usualLimits,
		Audit:    Audit{Dir: "/var/lib/jumpgate/audit", MaxSize: 64 << 20, Keep: 400 * 24 * time.Hour},
		Sites: []*Site{{
			Wwwroot:         wwwroot(t, "https://idp.example.org"),
			Upstream:        &url.URL{Scheme: "http", Host: "127.0.0.1:8081"},
			UpstreamTimeout: 5 * time.Minute,
			Issuer:          "gateway",
			Identity: Identity{
				Source: "moodle-web", Cookie: "MoodleSession", MnetLocalhostID: 1,
				SessionTimeout: 8 * time.Hour,
			},
			MNet:        MNet{TimestampWindow: 5 * time.Minute, RotateKey: true},
			Landing:     Landing{By: "moodle"},
			Unsigned:    "allow",
			MaxLinkLife: 90 * 24 * time.Hour, Bounce: "off",
			Peers: &gateway.Allowlist{},
		}},
		Warnings: []Warning{{
			Position{File: "jumpgate.yaml", Line: 3, Column: 14},
			"https://idp.example.org has no peers: every jump will be refused",
		}},
	}
	if diff := cmp.Diff(want, load(t, minimal), compare); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// full has every field in some form, and names files of testDir.
const full = `
listen: :8443
tls: {certificate: tls.pem, key: tls.key}
admin: {listen: "off"}
redis:
  addresses: [sentinel1, "[2001:db8::1]:7000", sentinel3.example.org]
  master_name: mymaster
  database: 3
  username: jumpgate
  password_file: password
  tls: {ca_file: tls.pem, server_name: redis.example.org, certificate: tls.pem, key: tls.key}
trusted_proxies: [10.0.0.0/8, "2001:db8::/32", 192.0.2.1]
state_dir: state
log: {level: debug, format: json}
limits: {pending_jumps_per_address: 7, pending_jumps_per_site: 70, jumps_per_user: 5/s burst 9, jumps_per_address: off, jumps_per_peer: 1000/h}
audit: {dir: trail, fsync: always, usernames: hmac, max_size_mib: 1, keep_days: 30}
sites:
  - wwwroot: HTTPS://IDP.example.org:443/moodle/
    aliases: [http://idp.example.org/moodle, https://old-idp.example.org]
    upstream: https://moodle.internal/
    upstream_timeout: 1m30s
    issuer: moodle
    identity:
      source: moodle-redis
      cookie: MoodleSessionmain
      mnet_localhost_id: 2
      mfa: true
      redis: rediss://reader@moodle-redis.internal/4
      prefix: "yes: #1 "
      session_timeout: 2h
      touch_sessions: true
    key: tls.key
    mnet: {dispatcher: off, timestamp_window: 90s, register_all: true}
    redirects: {mode: enforce, allow: ["https://login.example.org/realms/College/", "moodlemobile:"]}
    roam: {allow: [Ada, "student-*"], allow_file: names, deny: [bob], deny_file: empty}
    unsigned_jumps: confirm
    max_link_life: 30d
    bounce: auto
    mail:
      homes:
        - {home: "http://plain.example.org/", addresses: [Example.edu, "*.example.edu"]}
        - {home: "https://old.example.org", addresses: [Ada@Example.com]}
        - {home: "https://idp.example.org/moodle/", addresses: [staff.example.edu]}
      learn: ["http://plain.example.org"]
      relay: {listen: ":2526", clients: [10.1.0.0/16, "::1"], next: smtp://mail.internal, tls: {ca_file: tls.pem}, username: moodle, password_file: password, max_size_mib: 5, max_connections: 3, timeout: 1m}
    peers:
      - wwwroot: https://sp.example.org
        aliases: [http://sp.example.org, https://old.example.org]
        hostid: 5
        name: "The 'Forum': #1"
        application: moodle
        certificate: sp.pem
        allow_paths: [/mod/forum/]
        publish: [sso_idp, sso_sp]
        subscribe: []
        export: [city, picture, city]
        roam: {allow: []}
        access: {deny_file: names}
        require_signed: true
      - wwwroot: https://mahara.example.org
        application: mahara
        fingerprint: SHA256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789ABCDEF
      - wwwroot: http://plain.example.org
        insecure_http: true
    peers_dir: peers.d
  - wwwroot: https://second.example.org
    upstream: http://127.0.0.1:8082
    identity: {source: moodle-web, token_env: JUMPGATE_TEST_TOKEN}
    peers: [{wwwroot: "https://sp.example.org"}]
`

func TestAFileHoldsEverything(t *testing.T) {
	dir := testDir(t)
	t.Setenv("JUMPGATE_TEST_TOKEN", "web-service-token")
	writeFile(t, "peers.d/b.yaml", "wwwroot: https://b.example.org\n")
	writeFile(t, "peers.d/a.yaml", "wwwroot: https://other.example.org\ncertificate: ../other.pem\n")
	in := func(name string) string { return filepath.Join(dir, name) }
	destination := func(s string) gateway.Destination {
		d, err := gateway.ParseDestination(s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	certificate := func(name string) *gateway.Certificate {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		c, err := gateway.ParseCertificate(b)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	fingerprint, err := gateway.ParseFingerprint("SHA256:" + strings.Repeat("0123456789abcdef", 4))
	if err != nil {
		t.Fatal(err)
	}
	names := func(entries ...string) *gateway.UserList {
		u, err := gateway.NewUserList(entries...)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	idp, sp := []string{"sso_idp"}, []string{"sso_sp"}
	first, err := gateway.NewAllowlist(
		&gateway.Peer{
			Wwwroot: wwwroot(t, "https://sp.example.org"),
			Aliases: []gateway.Wwwroot{wwwroot(t, "http://sp.example.org"), wwwroot(t, "https://old.example.org")},
			HostID:  5, Name: "The 'Forum': #1", Application: "moodle", Certificate: certificate("sp.pem"),
			AllowPaths: []string{"/mod/forum/"}, Publish: []string{"sso_idp", "sso_sp"},
			Export: []string{"city", "picture"}, Roam: gateway.Access{Allow: names()},
			Access: gateway.Access{Deny: names("carol", "dave@home.test")}, RequireSigned: true,
		},
		&gateway.Peer{
			Wwwroot: wwwroot(t, "https://mahara.example.org"), Application: "mahara",
			Fingerprint: fingerprint, Publish: idp, Subscribe: sp,
		},
		&gateway.Peer{Wwwroot: wwwroot(t, "http://plain.example.org"), Application: "moodle", Publish: idp, Subscribe: sp},
		&gateway.Peer{
			Wwwroot: wwwroot(t, "https://other.example.org"), Application: "moodle",
			Certificate: certificate("other.pem"), Publish: idp, Subscribe: sp,
		},
		&gateway.Peer{Wwwroot: wwwroot(t, "https://b.example.org"), Application: "moodle", Publish: idp, Subscribe: sp},
	)
	if err != nil {
		t.Fatal(err)
	}
	second, err := gateway.NewAllowlist(
		&gateway.Peer{Wwwroot: wwwroot(t, "https://sp.example.org"), Application: "moodle", Publish: idp, Subscribe: sp})
	if err != nil {
		t.Fatal(err)
	}
	mailHomes := &gateway.MailHomes{}
	for entry, home := range map[string]int{"example.edu": 2, "*.example.edu": 2, "ada@example.com": 0} {
		if err := mailHomes.Add(first.Peers()[home], entry); err != nil {
			t.Fatal(err)
		}
	}
	if err := mailHomes.Add(nil, "staff.example.edu"); err != nil {
		t.Fatal(err)
	}
	want := &Config{
		File:   "jumpgate.yaml",
		Listen: ":8443",
		TLS:    &TLS{CertificateFile: in("tls.pem"), KeyFile: in("tls.key")},
		Redis: &Redis{
			Addresses:  []string{"sentinel1:26379", "[2001:db8::1]:7000", "sentinel3.example.org:26379"},
			MasterName: "mymaster", Database: 3,
			Username: "jumpgate", Password: "hunter2", PasswordFile: in("password"),
			TLS: &ServerTLS{
				CAFile: in("tls.pem"), CertificateFile: in("tls.pem"), KeyFile: in("tls.key"),
				ServerName: "redis.example.org",
			},
		},
		TrustedProxies: []netip.Prefix{
			netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("192.0.2.1/32"),
		},
		StateDir: in("state"),
		Log:      Log{Level: slog.LevelDebug, Format: "json"},
		Limits: Limits{
			PendingJumpsPerAddress: 7, PendingJumpsPerSite: 70,
			JumpsPerUser: gateway.Rate{N: 5, Per: time.Second, Burst: 9}, JumpsPerPeer: gateway.Rate{N: 1000, Per: time.Hour, Burst: 1000},
		},
		Audit: Audit{Dir: in("trail"), Always: true, HideUsernames: true, MaxSize: 1 << 20, Keep: 30 * 24 * time.Hour},
		Sites: []*Site{{
			Wwwroot:         wwwroot(t, "https://idp.example.org/moodle"),
			Upstream:        &url.URL{Scheme: "https", Host: "moodle.internal"},
			UpstreamTimeout: 90 * time.Second,
			Issuer:          "moodle",
			Identity: Identity{
				Source: "moodle-redis", Cookie: "MoodleSessionmain", MnetLocalhostID: 2, MFA: true,
				Redis: &Redis{
					Addresses: []string{"moodle-redis.internal:6379"}, Username: "reader", Database: 4, TLS: &ServerTLS{},
				},
				Prefix: "yes: #1 ", SessionTimeout: 2 * time.Hour, TouchSessions: true,
			},
			Aliases:   []gateway.Wwwroot{wwwroot(t, "http://idp.example.org/moodle"), wwwroot(t, "https://old-idp.example.org")},
			KeyFile:   in("tls.key"),
			MNet:      MNet{Off: true, TimestampWindow: 90 * time.Second, RotateKey: true, RegisterAll: true},
			Landing:   Landing{By: "moodle"},
			Redirects: Redirects{Enforce: true, Allow: []gateway.Destination{destination("https://login.example.org/realms/College"), destination("moodlemobile:")}},
			Roam:      gateway.Access{Allow: names("ada", "carol", "dave@home.test", "student-*"), Deny: names("bob")},
			Unsigned:  "confirm", MaxLinkLife: 30 * 24 * time.Hour, Bounce: "auto",
			Mail: Mail{Homes: mailHomes, Learn: first.Peers()[2:3], Relay: &MailRelay{
				Listen: ":2526", Clients: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("::1/128")},
				Next: MailServer{
					Address: "mail.internal:25", Trust: &ServerTLS{CAFile: in("tls.pem")},
					Username: "moodle", Password: "hunter2", PasswordFile: in("password"),
				},
				MaxSize: 5 << 20, MaxConnections: 3, Timeout: time.Minute,
			}},
			Peers:    first.Closed(),
			PeersDir: in("peers.d"),
		}, {
			Wwwroot:         wwwroot(t, "https://second.example.org"),
			Upstream:        &url.URL{Scheme: "http", Host: "127.0.0.1:8082"},
			UpstreamTimeout: 5 * time.Minute,
			Issuer:          "gateway",
			Identity: Identity{
				Source: "moodle-web", Cookie: "MoodleSession", MnetLocalhostID: 1,
				SessionTimeout: 8 * time.Hour,
				Token:          "web-service-token", TokenEnv: "JUMPGATE_TEST_TOKEN",
			},
			MNet:     MNet{TimestampWindow: 5 * time.Minute, RotateKey: true},
			Landing:  Landing{By: "moodle"},
			Unsigned: "allow", MaxLinkLife: 90 * 24 * time.Hour, Bounce: "off",
			Peers: second,
		}},
	}
	got := load(t, full)
	if diff := cmp.Diff(want, got, compare, cmpopts.IgnoreFields(Config{}, "Warnings")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(got.TLS.Certificate.Certificate) != 1 {
		t.Error("the TLS certificate is not loaded")
	}
	if c := got.Redis.TLS.Config; c.RootCAs == nil || len(c.Certificates) != 1 || c.ServerName != "redis.example.org" {
		t.Errorf("the TLS configuration of Redis is not loaded: %+v", c)
	}
	if c := got.Sites[0].Identity.Redis.TLS.Config; c == nil || c.MinVersion != tls.VersionTLS12 {
		t.Errorf("rediss:// made no TLS configuration: %+v", c)
	}
	if shown := fmt.Sprintf("%v %+v %#v", got.Redis, got.Redis, got.Redis); strings.Contains(shown, "hunter2") {
		t.Errorf("the password is shown: %s", shown)
	}
}

func TestWhatIsUnwiseIsAWarning(t *testing.T) {
	testDir(t)
	peers := "    peers: [{wwwroot: 'https://sp.example.org'}]\n"
	for _, c := range []struct {
		name, file string
		want       []string
	}{
		{"nothing unwise", minimal + peers, nil},
		{"a site without TLS", strings.Replace(minimal, "https:", "http:", 1) + peers,
			[]string{"jumpgate.yaml:3:14: http://idp.example.org is served without TLS: anybody on the way can take over its sessions"}},
		{"a site without TLS on loopback", strings.Replace(minimal, "https://idp.example.org", "http://localhost:8080", 1) + peers, nil},
		{"a peer without TLS on loopback", minimal + "    peers: [{wwwroot: 'http://127.0.0.1:9000'}]\n", nil},
		{"a peer without TLS", minimal + "    peers: [{wwwroot: 'http://sp.example.org', insecure_http: true, certificate: sp.pem}]\n", nil},
		{"trust in everybody", "trusted_proxies: [0.0.0.0/0]" + minimal + peers,
			[]string{"jumpgate.yaml:1:19: 0.0.0.0/0 trusts everybody to say who the client is"}},
		{"a prefix for nothing", minimal + "    identity: {prefix: moodle_}\n" + peers,
			[]string{`jumpgate.yaml:5:24: "prefix" does nothing with the identity source moodle-web`}},
		{"a second factor that nobody spoke of", "redis: redis://a" + minimal + "    identity: {prefix: mdl_}\n" + peers,
			[]string{`jumpgate.yaml:5:15: "mfa" is not given: if Moodle asks for a second factor (tool_mfa), say mfa: true (--moodle-mfa), or learners jump without it`}},
		{"lists that nobody heeds in guard mode", minimal + "    issuer: moodle\n    roam: {deny: [bob]}\n    peers: [{wwwroot: 'https://sp.example.org', access: {deny: [bob]}, export: [city]}]\n",
			[]string{
				`jumpgate.yaml:6:11: "roam" does nothing with issuer: moodle: who may jump, and what peers are told, is decided by Moodle`,
				`jumpgate.yaml:7:57: "access" does nothing with issuer: moodle: who may jump, and what peers are told, is decided by Moodle`,
				`jumpgate.yaml:7:80: "export" does nothing with issuer: moodle: who may jump, and what peers are told, is decided by Moodle`,
			}},
		{"signatures that nobody looks at in guard mode", minimal + "    issuer: moodle\n    unsigned_jumps: refuse\n    peers: [{wwwroot: 'https://sp.example.org', require_signed: true}]\n",
			[]string{
				`jumpgate.yaml:6:21: "unsigned_jumps" does nothing with issuer: moodle: nobody looks at signatures, and who is logged in is not known`,
				`jumpgate.yaml:7:65: "require_signed" does nothing with issuer: moodle: nobody looks at signatures, and who is logged in is not known`,
			}},
		{"homes for a bounce", minimal + "    bounce: auto\n    peers: [{wwwroot: 'https://a.example.org', publish: [sso_sp], subscribe: [sso_idp]}]\n", nil},
		{"homes of mails without MNet", minimal + "    mnet: {dispatcher: off}\n    peers: [{wwwroot: 'https://a.example.org'}]\n    mail: {homes: [{home: 'https://a.example.org', addresses: [a.example]}]}\n",
			[]string{"jumpgate.yaml:5:24: MNet is switched off: every jump will be refused, and no peer is answered", `jumpgate.yaml:7:11: "mail" changes no links while MNet is switched off`}},
		{"learning without a relay", minimal + "    peers: [{wwwroot: 'https://a.example.org'}]\n    mail: {learn: ['https://a.example.org']}\n",
			[]string{`jumpgate.yaml:6:19: "learn": what is learned is for the relay, and there is none`}},
		{"a bounce that leads nowhere", minimal + "    bounce: choose\n" + peers,
			[]string{`jumpgate.yaml:5:13: "bounce" does nothing: no peer is a home; a Moodle whose learners come here has publish: [sso_sp] and subscribe: [sso_idp]`}},
		{"a bounce to a Mahara", minimal + "    bounce: auto\n    peers: [{wwwroot: 'https://a.example.org', application: mahara, publish: [sso_sp], subscribe: [sso_idp]}]\n",
			[]string{`jumpgate.yaml:5:13: "bounce" does nothing: no peer is a home; a Moodle whose learners come here has publish: [sso_sp] and subscribe: [sso_idp]`}},
		{"a bounce without MNet", minimal + "    bounce: auto\n    mnet: {dispatcher: off}\n" + peers,
			[]string{
				"jumpgate.yaml:6:24: MNet is switched off: every jump will be refused, and no peer is answered",
				`jumpgate.yaml:5:13: "bounce" does nothing while MNet is switched off`,
			}},
		{"MNet switched off", minimal + "    mnet: {dispatcher: \"off\"}\n" + peers,
			[]string{"jumpgate.yaml:5:24: MNet is switched off: every jump will be refused, and no peer is answered"}},
		{"a second factor in guard mode", "redis: redis://a" + minimal + "    issuer: moodle\n" + peers, nil},
		{"a provider for nothing", minimal + "    identity: {source: moodle-web, issuer: 'https://login.example.org', session: 1h}\n" + peers,
			[]string{
				`jumpgate.yaml:5:44: "issuer" does nothing with the identity source moodle-web`,
				`jumpgate.yaml:5:82: "session" does nothing with the identity source moodle-web`,
			}},
		{"Moodle's second factor at a provider", minimal + "    identity: {source: oidc, client_id: a, issuer: 'https://login.example.org', mfa: true}\n" + peers,
			[]string{`jumpgate.yaml:5:86: "mfa" is about Moodle's own logins: with the identity source oidc the provider asks for second factors`}},
		{"an account that nobody looks up", minimal + "    landing: {by: moodle, name: plain, token_env: PATH}\n    peers: [{wwwroot: 'https://sp.example.org', auto_add_remote_users: ask, import: []}]\n",
			[]string{
				`jumpgate.yaml:5:33: "name" does nothing with landing: moodle: Moodle itself logs learners in`,
				`jumpgate.yaml:5:51: "token_env" does nothing with landing: moodle: Moodle itself logs learners in`,
				`jumpgate.yaml:6:72: "auto_add_remote_users" does nothing with landing: moodle: Moodle itself decides`,
				`jumpgate.yaml:6:85: "import" does nothing with landing: moodle: Moodle itself decides`,
			}},
		{"a second factor that pages do not tell", minimal + "    identity: {mfa: true}\n    landing: {by: header}\n    peers: [{wwwroot: 'https://sp.example.org', subscribe: [sso_idp]}]\n",
			[]string{"jumpgate.yaml:6:14: landing: header with mfa needs the identity source moodle-redis: Moodle's pages do not say whose a session is that waits for a factor"}},
		{"a session that Moodle has", minimal + "    landing: {by: header, algorithm: RS256, session_idle: 1h}\n    peers: [{wwwroot: 'https://sp.example.org', subscribe: [sso_idp]}]\n",
			[]string{
				`jumpgate.yaml:5:38: "algorithm" does nothing with landing: header`,
				`jumpgate.yaml:5:59: "session_idle" does nothing with landing: header`,
			}},
		{"a Moodle where there is none", "redis: redis://a" + minimal + "    identity: {prefix: a}\n    landing: {by: jwt, token_file: password}\n" + peers,
			[]string{
				`jumpgate.yaml:6:36: "token_file" does nothing with landing: jwt`,
				`jumpgate.yaml:5:15: "identity" does nothing with landing: jwt: there are no sessions of Moodle's`,
				`jumpgate.yaml:6:14: landing: jwt lets nobody land: no peer has subscribe: [sso_idp]`,
			}},
		{"a service that nobody asks", minimal + "    landing: {by: header, issuer_id: 3, client_id: a, client_secret_env: A}\n    peers: [{wwwroot: 'https://sp.example.org', subscribe: [sso_idp]}]\n",
			[]string{
				`jumpgate.yaml:5:38: "issuer_id" does nothing with landing: header`,
				`jumpgate.yaml:5:52: "client_id" does nothing with landing: header`,
				`jumpgate.yaml:5:74: "client_secret_env" does nothing with landing: header`,
			}},
		{"a service that is not there yet", minimal + "    landing: {by: oauth2, client_secret_file: secret, token_file: password}\n    peers: [{wwwroot: 'https://sp.example.org', subscribe: [sso_idp]}]\n",
			[]string{"jumpgate.yaml:5:19: landing: oauth2 lets nobody land without issuer_id, the number of the OAuth 2 service that is this gateway: it is in the address of the page where Moodle edits it, id=N"}},
		{"pictures that nobody gives to Moodle", minimal + "    landing: header\n    peers: [{wwwroot: 'https://sp.example.org', subscribe: [sso_idp], import: [lang, picture]}, {wwwroot: 'https://b.example', import: [city, country, lang, picture]}, {wwwroot: 'https://c.example', import: [lang]}, {wwwroot: 'https://d.example'}]\n",
			[]string{
				`jumpgate.yaml:6:79: "picture" does nothing without landing: {by: header, token_file: …}: it is Moodle's web services that take one up`,
				`jumpgate.yaml:6:136: "picture" does nothing without landing: {by: header, token_file: …}: it is Moodle's web services that take one up`,
			}},
		{"pictures that somebody does", minimal + "    landing: {by: header, token_env: PATH}\n    peers: [{wwwroot: 'https://sp.example.org', subscribe: [sso_idp], import: [picture]}]\n", nil},
		{"pictures for an application", "redis: redis://a" + minimal + "    landing: jwt\n    peers: [{wwwroot: 'https://sp.example.org', subscribe: [sso_idp], import: [picture]}]\n",
			[]string{`jumpgate.yaml:6:79: "picture" does nothing with landing: jwt: an assertion holds no picture`}},
		{"an application", "redis: redis://a" + minimal + "    landing: jwt\n    peers: [{wwwroot: 'https://sp.example.org', subscribe: [sso_idp]}]\n", nil},
		{"a landing without a home", minimal + "    landing: header\n" + peers,
			[]string{"jumpgate.yaml:5:14: landing: header lets nobody land: no peer has subscribe: [sso_idp]"}},
		{"a token for nothing", "redis: redis://a" + minimal + "    identity: {mfa: false, token_file: password}\n" + peers,
			[]string{`jumpgate.yaml:5:40: "token_file" does nothing with the identity source moodle-redis`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "a peer without TLS" { // its certificate must name the address without TLS
				certificate, _ := pair("http://sp.example.org")
				writeFile(t, "sp.pem", string(certificate))
				c.want = []string{"jumpgate.yaml:5:23: http://sp.example.org has no TLS (insecure_http): anybody on the way can land as somebody else"}
			}
			var got []string
			for _, w := range load(t, c.file).Warnings {
				got = append(got, w.String())
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnUpstreamMustNotBeTheGateway(t *testing.T) {
	for _, c := range []struct {
		listen, upstream string
		want             bool
	}{
		{"127.0.0.1:8080", "http://127.0.0.1:8080", true},
		{"127.0.0.1:8080", "http://localhost:8080", true},
		{"localhost:80", "http://127.0.0.1", true},
		{":8080", "http://[::1]:8080", true},
		{"0.0.0.0:443", "https://localhost", true},
		{":8080", "http://moodle.internal:8080", false},
		{"127.0.0.1:8080", "http://127.0.0.1:8081", false},
		{"127.0.0.1:8080", "http://127.0.0.2:8080", false},
	} {
		u, err := url.Parse(c.upstream)
		if err != nil {
			t.Fatal(err)
		}
		if got := loops(c.listen, u); got != c.want {
			t.Errorf("listen %s, upstream %s: got %t", c.listen, c.upstream, got)
		}
	}
}

// usualLimits are those of a configuration that says nothing, with the embedded
// Redis.
var usualLimits = Limits{
	PendingJumpsPerAddress: 1000, PendingJumpsPerSite: 10000,
	JumpsPerUser: gateway.Rate{N: 30, Per: time.Minute, Burst: 30}, JumpsPerAddress: gateway.Rate{N: 600, Per: time.Minute, Burst: 600},
}
