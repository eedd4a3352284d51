package gateway_test

import (
	"slices"
	"testing"
	"time"

	"jumpgate/gateway"
)

func TestWhereLearnersMayBeSentHome(t *testing.T) {
	now := time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC)
	home := func(name string, change func(*gateway.Peer)) *gateway.Peer {
		p := &gateway.Peer{
			Wwwroot: wwwroot(t, "https://"+name+".test"), Application: gateway.Moodle,
			Publish: []string{gateway.ServiceSSOSP}, Subscribe: []string{gateway.ServiceSSOIDP},
		}
		if change != nil {
			change(p)
		}
		return p
	}
	peers := []*gateway.Peer{
		home("home", func(p *gateway.Peer) { p.Aliases = []gateway.Wwwroot{wwwroot(t, "http://old.test/moodle")} }),
		home("both", func(p *gateway.Peer) {
			p.Publish = append(p.Publish, gateway.ServiceSSOIDP)
			p.Subscribe = append(p.Subscribe, gateway.ServiceSSOSP)
		}),
		home("sp", func(p *gateway.Peer) {
			p.Publish, p.Subscribe = []string{gateway.ServiceSSOIDP}, []string{gateway.ServiceSSOSP}
		}),
		home("half", func(p *gateway.Peer) { p.Publish = nil }),
		home("otherhalf", func(p *gateway.Peer) { p.Subscribe = nil }),
		home("mahara", func(p *gateway.Peer) { p.Application = gateway.Mahara }),
		home("off", func(p *gateway.Peer) { p.Off = true }),
		home("over", func(p *gateway.Peer) { p.Expires = now }),
	}
	list, err := gateway.NewAllowlist(peers...)
	if err != nil {
		t.Fatal(err)
	}
	if got := list.Homes(now); !slices.Equal(got, peers[:2]) {
		t.Errorf("homes %v", got)
	}
	if got := list.Closed().Homes(now); len(got) != 0 {
		t.Errorf("with MNet switched off there are homes: %v", got)
	}
	own := gateway.OwnSite(wwwroot(t, "https://forum.test/moodle"), wwwroot(t, "https://old-forum.test"))
	for _, test := range []struct {
		home, wantsurl string
		rule           gateway.Rule
		peer           *gateway.Peer
		page           string
	}{
		{"https://home.test", "/mod/x?d=1#p2", gateway.RulePath, peers[0], "https://forum.test/moodle/mod/x?d=1#p2"},
		{"HOME.test/", "https://old-forum.test/mod/x", gateway.RulePeerURL, peers[0], "https://forum.test/moodle/mod/x"},
		{"http://old.test/moodle", "", gateway.RuleEmpty, peers[0], "https://forum.test/moodle/"},
		{"https://both.test", "/", gateway.RulePath, peers[1], "https://forum.test/moodle/"},
		{"https://home.test", "//evil.test", gateway.RuleSchemeRelative, peers[0], ""},
		{"https://home.test", "https://home.test/x", gateway.RuleForeignOrigin, peers[0], ""},
		{"https://home.test", ".evil.test/", gateway.RuleNoSlash, peers[0], ""},
		{"https://sp.test", "/", gateway.RulePeerGrant, peers[2], ""},
		{"https://half.test", "/", gateway.RulePeerGrant, peers[3], ""},
		{"https://otherhalf.test", "/", gateway.RulePeerGrant, peers[4], ""},
		{"https://mahara.test", "/", gateway.RulePeerGrant, peers[5], ""},
		{"https://off.test", "/", gateway.RulePeerOff, peers[6], ""},
		{"https://over.test", "/", gateway.RulePeerExpired, peers[7], ""},
		{"https://evil.test", "/", gateway.RulePeerUnknown, nil, ""},
		{"https://forum.test/moodle", "/", gateway.RulePeerUnknown, nil, ""},
		{"", "/", gateway.RulePeerMissing, nil, ""},
	} {
		d := gateway.DecideHome(own, list, test.home, test.wantsurl, now)
		if d.Rule != test.rule || d.Peer != test.peer || d.Target.URL() != test.page || d.Allow != (test.page != "") {
			t.Errorf("%s to %s: %+v", test.wantsurl, test.home, d)
		}
	}
	if d := gateway.DecideHome(own, list.Closed(), "https://home.test", "/", now); d.Allow || d.Rule != gateway.RuleMNetOff {
		t.Errorf("with MNet switched off: %+v", d)
	}
}
