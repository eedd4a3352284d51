package main

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/moodletest"
)

// A learner of one home goes to a Mahara and to a Moodle, by each of the links
// that may lead to a Mahara. The Mahara gets our certificate by keyswap, as it
// does when somebody adds us there.
func TestALearnerLandsAtAMaharaAndAtAMoodle(t *testing.T) {
	server := unstarted(t)
	root := wwwroot(t, "http://127.0.0.1:"+port(server)+"/portfolio")
	key, err := mnet.NewKey(root, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	certificate := filepath.Join(t.TempDir(), "mahara.pem")
	writeFile(t, certificate, key.Certificate().PEM())
	f := newFederation(t, setting{
		identity: "{source: moodle-web}",
		peers:    fmt.Sprintf("- {wwwroot: %q, application: mahara, certificate: %q}", root, certificate),
	})
	home := wwwroot(t, f.IDP)
	mahara, err := moodletest.NewMahara(moodletest.MaharaOptions{
		Wwwroot: root, Key: key, Peers: []*gateway.Peer{{Wwwroot: home}},
		Users: []moodletest.User{{User: gateway.User{ // an account of former years
			Username: f.Username, FirstName: "Ada", LastName: "Lovelace", Email: "ada@home.example", Auth: "mnet", MnetHostID: 3,
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = mahara
	server.Start()

	v := newVisitor(t)
	v.follow(mahara.JumpLink(home, gateway.Moodle, "/view/view.php?id=3#comment")).login(f.Username, f.Password)
	for _, link := range []string{
		"", // just followed, with a login on the way
		mahara.JumpLink(home, gateway.Mahara, "/view/view.php?id=3#comment"),
		f.IDP + "/auth/xmlrpc/jump.php?wr=" + root.String() + "&ins=4&wantsurl=" + url.QueryEscape("/view/view.php?id=3#comment"),
		f.IDP + "/auth/mnet/jump.php?hostwwwroot=" + root.String() + "/&wantsurl=" + url.QueryEscape(root.String()+"/view/view.php?id=3#comment"),
	} {
		if link != "" {
			v.follow(link)
		}
		if want := root.String() + "/view/view.php?id=3#comment"; v.at.String() != want || !strings.Contains(v.page, "You are logged in as Ada Lovelace") {
			t.Errorf("%q led to %s by %q\n%s", link, v.at, v.hops, v.page)
		}
	}
	v.follow(f.DeepLink).reads(f.scene, f.Username)

	// Somebody who is new there: a Mahara asks for the picture, too, and takes
	// no fault for an answer.
	first := newVisitor(t)
	first.follow(mahara.JumpLink(home, gateway.Moodle, "/view/view.php?id=3")).login("root", "root")
	if !strings.Contains(first.page, "You are logged in as Super User") {
		t.Errorf("a first visit led to %s by %q\n%s", first.at, first.hops, first.page)
	}
	if _, ok := mahara.Account(home, "root"); !ok {
		t.Error("a first visit makes no account")
	}
}
