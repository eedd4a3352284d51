package main

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"jumpgate/gateway/config"
)

// switchIssuer changes one word in the configuration and reloads it.
func (f *federation) switchIssuer(issuer string) (log string) {
	f.t.Helper()
	text, err := os.ReadFile(f.config.File)
	if err != nil {
		f.t.Fatal(err)
	}
	old := "issuer: " + f.config.Sites[0].Issuer + "\n"
	if strings.Count(string(text), old) != 1 {
		f.t.Fatalf("not one issuer in:\n%s", text)
	}
	writeFile(f.t, f.config.File, strings.Replace(string(text), old, "issuer: "+issuer+"\n", 1))
	var said bytes.Buffer
	g := f.gateway.Load()
	g.log = slog.New(slog.NewTextHandler(&said, nil))
	s := &server{log: g.log, load: func() (*config.Config, error) { return config.Load(f.config.File) }}
	s.current.Store(f.config)
	s.reload(g)
	f.config = s.current.Load()
	if got := f.config.Sites[0].Issuer; got != issuer {
		f.t.Fatalf("the issuer is %s:\n%s", got, &said)
	}
	return said.String()
}

func TestTheIssuerIsOneWordAndAReload(t *testing.T) {
	f := newFederation(t, setting{issuer: "moodle", identity: "{source: moodle-web}"})
	v := newVisitor(t)
	arrive := func(issuer string, anonymous, loggedIn int) {
		t.Helper()
		v.follow(f.DeepLink)
		form := v.at.String()
		v.login(f.Username, f.Password).reads(f.scene, f.Username)
		if n := v.redirectsFrom(form, f.IDP); n != anonymous {
			t.Errorf("issuer %s: the login was answered with %d redirects: %q", issuer, n, v.hops)
		}
		for _, link := range []string{f.DeepLink, f.IDP + "/auth/mnet/jump.php?hostid=5&wantsurl=" + url.QueryEscape(f.SP+"/mod/forum/discuss.php?d=1#p3")} {
			v.follow(link).reads(f.scene, f.Username)
			if n := v.redirectsFrom(link, f.IDP); n != loggedIn {
				t.Errorf("issuer %s: the click was answered with %d redirects: %q", issuer, n, v.hops)
			}
		}
	}
	// A logout ends the session at the forum too, since Moodle calls it: that of
	// the first landing, for stock forums do not note the next one's.
	v.follow(f.DeepLink)
	v.login(f.Username, f.Password).reads(f.scene, f.Username)
	v.logout(f.IDP)
	if v.follow(f.SP + "/mod/forum/discuss.php?d=1"); v.at.Path != "/login/index.php" {
		t.Errorf("after the logout at home the forum shows %s", v.at)
	}
	arrive("moodle", 3, 1) // testsession, jump and land, as ever
	v.logout(f.IDP)
	v = newVisitor(t)
	if log := f.switchIssuer("gateway"); strings.Contains(log, "guard mode") {
		t.Errorf("the log says:\n%s", log)
	}
	arrive("gateway", 1, 1) // the forum knows the key
	log := f.switchIssuer("moodle")
	for _, want := range []string{"level=INFO msg=\"guard mode: the Moodle behind makes the tokens", "level=WARN msg=\"guard mode changes nothing"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q:\n%s", want, log)
		}
	}
	v = newVisitor(t)
	arrive("moodle", 3, 1)
}

func TestALoginThatWaitsForAnotherIssuerIsNotLost(t *testing.T) {
	f := newFederation(t, setting{issuer: "moodle", identity: "{source: moodle-web}"})
	v := newVisitor(t).follow(f.DeepLink)
	f.switchIssuer("gateway") // Moodle has kept the link, and it leads to us
	v.login(f.Username, f.Password).reads(f.scene, f.Username)
}

func TestInGuardModeThePeersTalkToMoodle(t *testing.T) {
	f := newFederation(t, setting{issuer: "moodle", identity: "{source: moodle-web}"})
	certificate, err := os.ReadFile(f.config.Sites[0].KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	v := newVisitor(t).follow(f.IDP + "/mnet/publickey.php?x=1")
	if !strings.HasPrefix(v.page, "-----BEGIN CERTIFICATE-----") || !strings.Contains(string(certificate), v.page) {
		t.Errorf("the public key is not Moodle's: %s", v.page)
	}
	for _, test := range []struct{ name, body, want string }{
		{"a keyswap of a peer", keyswapOf(f.SP), "BEGIN CERTIFICATE"},
		{"a keyswap of a stranger", keyswapOf("https://evil.test"), "<int>7020</int>"},
	} {
		r, err := http.NewRequest("POST", f.IDP+"/mnet/xmlrpc/server.php", strings.NewReader(test.body))
		if v.do(r, err); !strings.Contains(v.page, test.want) {
			t.Errorf("%s: %s", test.name, v.page)
		}
	}
}

func keyswapOf(wwwroot string) string {
	return "<methodCall><methodName>system/keyswap</methodName><params><param><value><string>" + wwwroot +
		"</string></value></param></params></methodCall>"
}
