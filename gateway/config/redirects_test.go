package config

import (
	"testing"
	"time"
)

func TestASiteDecidesByItsConfiguration(t *testing.T) {
	testDir(t)
	c := load(t, minimal+"    aliases: [http://old.example.org]\n    identity: {source: oidc, client_id: a, issuer: 'https://openid.example.org/realms/a'}\n"+
		"    redirects: {allow: ['https://cas.example.org']}\n    peers: [{wwwroot: 'https://forum.example.net/moodle'}]\n")
	decider := c.Sites[0].Decider()
	for address, want := range map[string]bool{
		c.Sites[0].Wwwroot.String() + "/my/":                  true,
		"http://old.example.org/":                             true,
		"https://openid.example.org/realms/a/auth?client_id=": true,
		"https://cas.example.org/login":                       true,
		"https://forum.example.net/moodle/x":                  true,
		"https://forum.example.net/":                          false,
		"https://evil.example.org/":                           false,
		"http://cas.example.org/login":                        false,
	} {
		if d := decider.Address(address, time.Now()); d.Allow != want {
			t.Errorf("%s: %+v", address, d)
		}
	}
	if got := c.Sites[0].Redirects.Mode(); got != "report" {
		t.Errorf("the mode is %s", got)
	}
}
