package config

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func printed(t testing.TB, c *Config) string {
	t.Helper()
	var b strings.Builder
	if err := Print(&b, c); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestWhatIsPrintedLoadsAsTheSame(t *testing.T) {
	testDir(t)
	t.Setenv("JUMPGATE_TEST_TOKEN", "web-service-token")
	t.Setenv("JUMPGATE_TEST_CLIENT", "hunter2hunter2hunter2")
	writeFile(t, "peers.d/a.yaml", "wwwroot: https://a.example.org\nhostid: 9\n")
	block := "    peers:\n      - wwwroot: https://sp.example.org\n        certificate: |\n" +
		regexp.MustCompile(`(?m)^`).ReplaceAllString(string(pairs().spCert), "          ") + "\n"
	for name, file := range map[string]string{
		"little":           minimal,
		"everything":       full,
		"a certificate":    minimal + block,
		"a cluster":        "redis: {addresses: [a, b], cluster: true}" + minimal,
		"Redis over TLS":   "redis: rediss://a" + minimal,
		"a token":          minimal + "    identity: {token_file: password}\n",
		"a login provider": minimal + "    identity: {source: oidc, client_id: a, issuer: 'https://login.example.org/'}\n",
		"all of a login provider": minimal + "    identity: {source: oidc, client_id: a, issuer: 'http://127.0.0.1:9000/realms/a', client_secret_file: password, " +
			"scopes: [openid], session: 10m, username_strip: '@College.example', usernames_file: usernames.csv, " +
			"claims: {username: upn, firstname: a, lastname: b, email: c, city: address.locality, country: d, lang: e, timezone: f}}\n",
		"a Redis of Moodle's":        minimal + "    identity: {redis: {url: 'redis://b', password_file: password}}\n",
		"texts that look otherwise":  minimal + "    identity: {redis: 'redis://b', prefix: 'true', cookie: '4.5'}\n",
		"a text like a comment":      minimal + "    identity: {redis: 'redis://b', prefix: ' #'}\n",
		"a text like an alias":       minimal + "    identity: {redis: 'redis://b', prefix: '*a'}\n",
		"a text in another alphabet": minimal + "    peers: [{wwwroot: 'https://a.example', name: 'Школа: «№1» \\ \"x\"'}]\n",
		"rates":                      minimal + "    peers: [{wwwroot: 'https://a.example', rate: off}, {wwwroot: 'https://b.example', rate: 100/m burst 50}, {wwwroot: 'https://c.example', rate: 7/s}]\nlimits: {jumps_per_user: off, jumps_per_address: 6/h burst 1, jumps_per_peer: 100/s}\n",
		"peers off, over or closed":  minimal + "    peers: [{wwwroot: 'https://a.example', enabled: false, deny_paths: [/admin, /login/]}, {wwwroot: 'https://b.example', enabled: true, expires: 2028-02-29}]\n",
		"all services":               minimal + "    peers: [{wwwroot: 'https://a.example', publish: [], subscribe: [mnet_enrol, sso_sp, sso_idp]}]\n",
		"a text with a backslash":    minimal + "    peers: [{wwwroot: 'https://a.example', name: 'a\\nb: ''c'''}]\n",
		"a relay of mails":           minimal + "    mail: {relay: {next: 'smtps://[2001:db8::1]'}}\n",
		"homes that are believed":    minimal + "    peers: [{wwwroot: 'https://a.example'}, {wwwroot: 'https://b.example'}]\n    mail: {homes: [{home: 'https://idp.example.org', addresses: [staff.example]}], learn: ['https://b.example', 'https://a.example'], relay: {next: 'smtp://127.0.0.1:26'}}\n",
		"homes of mail addresses":    minimal + "    peers: [{wwwroot: 'https://a.example'}, {wwwroot: 'https://b.example'}]\n    mail: {homes: [{home: 'https://b.example', addresses: [c.example, '*.c.example']}, {home: 'https://a.example', addresses: [x@c.example]}, {home: 'https://b.example', addresses: [bücher.example, 'o''brien+x@d.example']}]}\n",
		"redirects":                  minimal + "    redirects: {mode: enforce, allow: ['HTTPS://login.example.org:443/', 'https://*.example.org/x/', 'http://[2001:db8::1]:8080', 'moodlemobile:']}\n",
		"landings by header":         minimal + "    landing: header\n",
		"all of landings": minimal + "    landing: {by: header, name: '{username}.{idp host}.mnet', token_file: password}\n" +
			"    peers: [{wwwroot: 'https://a.example', subscribe: [sso_idp], auto_add_remote_users: ask, import: [lang]}, {wwwroot: 'https://b.example', subscribe: [sso_idp], auto_add_remote_users: existing, import: []}, {wwwroot: 'https://c.example', auto_add_remote_users: create, import: [lang, picture, country, city]}]\n",
		"landings by OAuth 2":        minimal + "    landing: {by: oauth2, issuer_id: 3, token_file: password, client_secret_file: secret}\n",
		"all of landings by OAuth 2": minimal + "    landing: {by: oauth2, name: plain, issuer_id: 12, token_env: JUMPGATE_TEST_TOKEN, client_id: x, client_secret_env: JUMPGATE_TEST_CLIENT}\n    peers: [{wwwroot: 'https://a.example', subscribe: [sso_idp], auto_add_remote_users: ask}]\n",
		"landings at an application": minimal + "    landing: jwt\n",
		"all of assertions":          minimal + "    landing: {by: jwt, name: plain, algorithm: RS256, session_idle: 90m, session_life: 36h}\n    peers: [{wwwroot: 'https://a.example', subscribe: [sso_idp], auto_add_remote_users: create, import: []}]\n",
		"landings of one home":       minimal + "    landing: {by: header, name: plain, token_env: JUMPGATE_TEST_TOKEN}\n    peers: [{wwwroot: 'https://a.example', subscribe: [sso_idp]}, {wwwroot: 'https://a.example/b'}]\n",
		"usernames like others":      minimal + "    roam: {allow: ['*x', 'true', 'null', '~', '1e3', '#a', 'a:b', '-x', é, '\"b*', '[a', '0x1'], deny: []}\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := load(t, file)
			text := printed(t, c)
			for _, secret := range []string{"hunter2", "web-service-token", "PRIVATE"} {
				if strings.Contains(text, secret) {
					t.Errorf("a secret is printed:\n%s", text)
				}
			}
			again := load(t, text)
			ignore := cmp.Options{compare, cmpopts.IgnoreFields(Config{}, "Warnings"), cmpopts.IgnoreFields(Site{}, "PeersDir")}
			if diff := cmp.Diff(c, again, ignore); diff != "" {
				t.Errorf("(-before +after):\n%s\n%s", diff, text)
			}
			if diff := cmp.Diff(text, printed(t, again)); diff != "" {
				t.Errorf("printed twice (-first +second):\n%s", diff)
			}
		})
	}
}

const example = "../../deploy/jumpgate.example.yaml"

func TestTheExampleLoadsAsItIs(t *testing.T) {
	c, err := Load(example)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Warnings) > 0 {
		t.Errorf("it warns: %v", c.Warnings)
	}
}

// TestTheExampleShowsTheDefaults keeps the example from telling something
// else than the code: but for the sites it is what an almost empty file means.
func TestTheExampleShowsTheDefaults(t *testing.T) {
	got, err := Load(example)
	if err != nil {
		t.Fatal(err)
	}
	testDir(t)
	want := load(t, minimal)
	ignore := cmp.Options{compare,
		cmpopts.IgnoreFields(Config{}, "File", "Warnings", "TrustedProxies"),
		cmpopts.IgnoreFields(Site{}, "Wwwroot", "Peers")}
	if diff := cmp.Diff(want, got, ignore); diff != "" {
		t.Errorf("(-default +example):\n%s", diff)
	}
}

func TestTheExampleHasEveryField(t *testing.T) {
	text, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	var walk func(typ reflect.Type, path string)
	walk = func(typ reflect.Type, path string) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct {
			return
		}
		for f := range typ.Fields() {
			key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			if key == "" || key == "-" {
				t.Errorf("%s.%s has no name in YAML", typ, f.Name)
				continue
			}
			if !regexp.MustCompile(`(?m)^[ #-]*` + key + `:`).Match(text) {
				t.Errorf("%s%s is not in the example", path, key)
			}
			walk(f.Type, path+key+".")
		}
	}
	walk(reflect.TypeFor[fileDoc](), "")
}
