package main

import (
	"bytes"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/config"
	"jumpgate/gateway/mnet"
)

// TestASiteThatHasMovedKeepsItsKey goes on with the state directory of the old
// address as long as that is an alias and the new one has none.
func TestASiteThatHasMovedKeepsItsKey(t *testing.T) {
	old, other, now := wwwroot(t, "http://home.test"), wwwroot(t, "https://other.test"), wwwroot(t, "https://home.test")
	c := &config.Config{StateDir: t.TempDir()}
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	load := func(s *config.Site) *mnet.Key {
		t.Helper()
		dir := siteDir(c, s)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		keys, err := openKeys(keyOptions(s, dir, nil, ""), logger)
		if err != nil {
			t.Fatal(err)
		}
		return keys.Current()
	}
	before := load(&config.Site{Wwwroot: old})
	if strings.Contains(log.String(), "former address") {
		t.Errorf("the log: %s", log.String())
	}
	moved := &config.Site{Wwwroot: now, Aliases: []gateway.Wwwroot{other, old}}
	if after := load(moved); after.String() != before.String() || !strings.Contains(log.String(), "still names a former address") {
		t.Errorf("after the move %s, not %s; the log: %s", after, before, log.String())
	}
	log.Reset()
	imported := &config.Site{Wwwroot: now, Aliases: moved.Aliases, KeyFile: filepath.Join(siteDir(c, moved), "key.pem")}
	if key := load(imported); key.String() != before.String() || !strings.Contains(log.String(), "still names a former address") {
		t.Errorf("the old key, imported: %s; the log: %s", key, log.String())
	}
	if key := load(&config.Site{Wwwroot: now}); key.String() == before.String() || !key.Certificate().Names(now) {
		t.Errorf("without the alias: %s", key)
	}
	if key := load(moved); key.String() == before.String() {
		t.Error("the key of the alias wins over the site's own")
	}
}

// TestOldNamesOnBothSidesLand follows an old link to the old address of a home
// that has moved. The forum has moved too, and still calls itself by its old
// name, which is also what its certificate says.
func TestOldNamesOnBothSidesLand(t *testing.T) {
	f := newFederation(t, setting{identity: "{source: moodle-web}"})
	oldForum := f.SP
	f.SP = strings.Replace(oldForum, "127.0.0.1", "localhost", 1) // the same address
	oldHome := strings.Replace(f.IDP, "localhost", "127.0.0.1", 1)
	peers, err := gateway.NewAllowlist(&gateway.Peer{
		Wwwroot: wwwroot(t, f.SP), Aliases: []gateway.Wwwroot{wwwroot(t, oldForum)}, Application: gateway.Moodle,
		Certificate: f.config.Sites[0].Peers.Peers()[0].Certificate,
		Publish:     []string{gateway.ServiceSSOIDP}, Subscribe: []string{gateway.ServiceSSOSP},
	})
	if err != nil {
		t.Fatal(err)
	}
	site, moved := *f.config.Sites[0], *f.config // the gateway of before has the others
	site.Peers, site.Aliases = peers, []gateway.Wwwroot{wwwroot(t, oldHome)}
	moved.Sites = []*config.Site{&site}
	f.config = &moved
	f.gateway.Store(f.newGateway())

	v := newVisitor(t).follow(f.IDP+"/login/index.php").login(f.Username, f.Password)
	v.follow(oldHome + "/auth/mnet/jump.php?hostwwwroot=" + url.QueryEscape(oldForum) + "&wantsurl=%2Fmod%2Fforum%2Fdiscuss.php%3Fd%3D1")
	want := []string{
		f.IDP + "/auth/mnet/jump.php?hostwwwroot=" + url.QueryEscape(f.SP) + "&wantsurl=%2Fmod%2Fforum%2Fdiscuss.php%3Fd%3D1",
		f.SP + "/auth/mnet/land.php?token=",
		oldForum + "/mod/forum/discuss.php?d=1", // it redeemed the token, as who it thinks it is
	}
	if len(v.hops) < len(want) {
		t.Fatalf("hops %q", v.hops)
	}
	for i, hop := range want {
		if !strings.HasPrefix(v.hops[i], hop) {
			t.Errorf("hop %d: %s, want %s…", i, v.hops[i], hop)
		}
	}
	if !strings.Contains(v.hops[1], "&idp="+f.IDP+"&") {
		t.Errorf("landing %s", v.hops[1])
	}
	if v.follow(oldHome + "/course/view.php?id=1"); len(v.hops) == 0 || v.hops[0] != f.IDP+"/course/view.php?id=1" {
		t.Errorf("an old page: hops %q", v.hops)
	}
}

func TestConfigCheckWarnsOfAKeyWithAnOldName(t *testing.T) {
	dir := t.TempDir()
	key, err := mnet.NewKey(wwwroot(t, "http://home.test"), time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "key"), string(key.PEM()))
	for _, test := range []struct {
		aliases string
		code    int
		says    string
	}{
		{"[http://home.test]", 0, "jumpgate: warning: " + filepath.Join(dir, "key") + ": the MNet key of the site still names a former address"},
		{"[http://other.test]", 1, "its certificate names another site than https://home.test"},
	} {
		file := filepath.Join(dir, "jumpgate.yaml")
		writeFile(t, file, "sites:\n  - wwwroot: https://home.test\n    aliases: "+test.aliases+
			"\n    upstream: http://127.0.0.1:8081\n    key: key\n    peers: [{wwwroot: 'https://sp.test'}]\n")
		var out, errs bytes.Buffer
		code := (&terminal{ctx: t.Context(), stdout: &out, stderr: &errs}).run([]string{"config", "check", "-c", file})
		if code != test.code || !strings.Contains(errs.String(), test.says) {
			t.Errorf("%s: exit code %d, %s", test.aliases, code, errs.String())
		}
	}
}

func TestNobodyAsksToBecomeAPeerInTheSitesOldName(t *testing.T) {
	key, err := mnet.NewKey(wwwroot(t, "http://old.test"), time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	peers, err := gateway.NewAllowlist()
	if err != nil {
		t.Fatal(err)
	}
	// Whatever is asked further would need what this instance does not have.
	s := &config.Site{Wwwroot: wwwroot(t, "https://home.test"), Aliases: []gateway.Wwwroot{wwwroot(t, "http://old.test")}, Peers: peers}
	(&instance{}).keyswapped(&config.Config{}, s, nil, nil)(t.Context(), mnet.KeyswapRequest{Wwwroot: s.Aliases[0], Certificate: key.Certificate()})
}
