package main

import (
	"context"
	"strings"
	"testing"

	"jumpgate/gateway"
	"jumpgate/gateway/config"
	"jumpgate/gateway/moodletest"
)

// homeOf is where somebody comes from, as far as a gateway has learned it.
func homeOf(t *testing.T, g *instance, s *config.Site, address string) string {
	t.Helper()
	g.learning.Wait()
	home, err := g.learned(s).HomeOf(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	if home == nil {
		return ""
	}
	return home.Wwwroot.String()
}

func TestAForumLearnsFromLandingsWhereItsMailsLead(t *testing.T) {
	const learn = "mail: {homes: [{home: HOME, addresses: [listed.test]}], learn: [\"HOME\"]}"
	r := startRedis(t)
	for name, test := range map[string]struct {
		identity, site string
		sessions       moodletest.Sessions
	}{
		"moodle-redis": {"{source: moodle-redis, prefix: mdl_, mfa: false, redis: " + r.url() + "}", learn, moodletest.Sessions{Redis: r.Client, Prefix: "mdl_"}},
		"moodle-web":   {"{source: moodle-web}", learn, moodletest.Sessions{}},
		"guard mode":   {"{source: moodle-web}", "issuer: moodle\n    " + learn, moodletest.Sessions{}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCrossroads(t, test.identity, test.site, test.sessions)
			if home := homeOf(t, c.gate, c.site, "bob@home.test"); home != "" {
				t.Errorf("before anybody has landed: %s", home)
			}
			c.lands(0, "bob")
			if home := homeOf(t, c.gate, c.site, "Bob@HOME.test"); home != c.homes[0] {
				t.Errorf("bob is at home at %q", home)
			}
			c.lands(1, "ada") // whose home is not believed
			if home := homeOf(t, c.gate, c.site, moodletest.SampleUser("").Email); home != "" {
				t.Errorf("ada is at home at %q", home)
			}
			keys := c.gate.redis.Client().Keys(context.Background(), "*}:mail:*").Val()
			if len(keys) != 1 || strings.Contains(keys[0], "bob") || strings.Contains(c.log.String(), "not learned") {
				t.Errorf("Redis has %q, and the log says:\n%s", keys, c.log.String())
			}
		})
	}
}

func TestAForumWithoutMNetLearnsFromLandings(t *testing.T) {
	h := newHeaderForum(t, headerSetting{landing: "header\n    mail: {learn: [\"HOME\"]}"})
	h.arrives(newVisitor(t), 0, "bob")
	h.arrives(newVisitor(t), 1, "grace")
	for address, want := range map[string]string{"bob@home.test": h.homes[0], "grace@home.test": ""} {
		if home := homeOf(t, h.gateway, h.site, address); home != want {
			t.Errorf("%s is at home at %q", address, home)
		}
	}
}

func TestWhatIsNotToBeLearnedIsNot(t *testing.T) {
	c := newCrossroads(t, "{source: moodle-web}", "", moodletest.Sessions{})
	c.lands(0, "bob")
	if c.gate.learned(c.site) != nil || c.gate.learns(c.site) != nil || c.gate.learned(&config.Site{Wwwroot: gateway.Wwwroot{}, Mail: config.Mail{Learn: c.site.Peers.Peers()}}) != nil {
		t.Error("something is learned")
	}
	if keys := c.gate.redis.Client().Keys(context.Background(), "*}:mail:*").Val(); len(keys) != 0 {
		t.Errorf("Redis has %q", keys)
	}
}
