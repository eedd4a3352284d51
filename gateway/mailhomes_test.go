package gateway_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway"
)

func TestTheClosestEntrySaysWhoseAMailAddressIs(t *testing.T) {
	college := &gateway.Peer{Wwwroot: wwwroot(t, "https://college.example")}
	physics := &gateway.Peer{Wwwroot: wwwroot(t, "https://physics.example")}
	var homes gateway.MailHomes
	for _, add := range []struct {
		home  *gateway.Peer
		entry string
	}{
		{college, "*.Example.EDU"}, {college, "example.edu"}, {physics, "physics.example.edu"}, {physics, "*.lab.example.edu"},
		{college, "Ada@Mail.example"}, {physics, "bob@example.edu"}, {physics, "bücher.example"}, {college, "josé@mail.example"},
	} {
		if err := homes.Add(add.home, add.entry); err != nil {
			t.Fatal(err)
		}
	}
	tests := map[string]*gateway.Peer{
		"carol@example.edu":                college,
		"CAROL@EXAMPLE.EDU":                college,
		"carol@www.example.edu":            college,
		"carol@a.b.example.edu":            college,
		"carol@physics.example.edu":        physics,
		"carol@www.physics.example.edu":    college,
		"carol@lab.example.edu":            college,
		"carol@a.lab.example.edu":          physics,
		"Bob@example.edu":                  physics,
		"bob@www.example.edu":              college,
		"ada@mail.example":                 college,
		"ADA@mail.EXAMPLE":                 college,
		"carol@mail.example":               nil,
		"ada@sub.mail.example":             nil,
		"x@xn--bcher-kva.example":          physics,
		"x@BÜCHER.example":                 physics,
		"JOSÉ@mail.example":                college,
		"x@evilexample.edu":                nil,
		"x@example.edu.evil.example":       nil,
		"x@edu":                            nil,
		"x@[192.0.2.1]":                    nil,
		"x@example.edu@evil.example":       nil,
		"@example.edu":                     nil,
		"example.edu":                      nil,
		"":                                 nil,
		"x y@example.edu":                  college,
		strings.Repeat("x", 65) + "@a.b":   nil,
		"x@" + strings.Repeat("x.", 200):   nil,
		"x@example.edu.":                   nil,
		"x@*.example.edu":                  nil,
		"\"quoted@part\"@example.edu":      college,
		"x@.example.edu":                   nil,
		"x@\u202eexample.edu":              nil,
		"x@ｅｘａｍｐｌｅ.edu":                    college, // as DNS would look it up
		"x@example.edu\r\nRCPT TO:<a@b.c>": nil,
	}
	for address, want := range tests {
		if got, said := homes.Home(address); got != want || said != (want != nil) {
			t.Errorf("%q: %v, %t", address, got, said)
		}
	}
	want := []gateway.MailHome{
		{Home: college, Entries: []string{"*.example.edu", "example.edu"}},
		{Home: physics, Entries: []string{"physics.example.edu", "*.lab.example.edu"}},
		{Home: college, Entries: []string{"ada@mail.example"}},
		{Home: physics, Entries: []string{"bob@example.edu", "xn--bcher-kva.example"}},
		{Home: college, Entries: []string{"josé@mail.example"}},
	}
	if diff := cmp.Diff(want, homes.Homes(), cmp.Comparer(func(a, b *gateway.Peer) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, said := (&gateway.MailHomes{}).Home("ada@mail.example"); said {
		t.Error("nobody's home is somewhere")
	}
}

func TestASiteHasPeopleOfItsOwnWithMailAddresses(t *testing.T) {
	college := &gateway.Peer{Wwwroot: wwwroot(t, "https://college.example")}
	var homes gateway.MailHomes
	for entry, home := range map[string]*gateway.Peer{"*.example.edu": college, "staff.example.edu": nil, "ada@staff.example.edu": college, "bob@www.example.edu": nil} {
		if err := homes.Add(home, entry); err != nil {
			t.Fatal(err)
		}
	}
	for address, want := range map[string]*gateway.Peer{
		"x@staff.example.edu": nil, "ada@staff.example.edu": college, "bob@www.example.edu": nil, "x@www.example.edu": college,
	} {
		if home, said := homes.Home(address); home != want || !said {
			t.Errorf("%s: %v %t", address, home, said)
		}
	}
	if err := homes.Add(college, "staff.example.edu"); err == nil || !strings.Contains(err.Error(), "to the site itself and https://college.example") {
		t.Error(err)
	}
}

func TestAnEntryOfMailHomesMeansOneThing(t *testing.T) {
	home := &gateway.Peer{Wwwroot: wwwroot(t, "https://college.example")}
	var homes gateway.MailHomes
	if err := homes.Add(home, "example.edu"); err != nil {
		t.Fatal(err)
	}
	for _, entry := range []string{
		"", "*", "*.", "EXAMPLE.edu", "@example.edu", "ada@", "ada@*.example.edu", "a b@example.org", "-a.example", "a..example", "example.org/x", "https://example.org", "*.*.example.org",
		"ada@example.org\n",
	} {
		if err := homes.Add(home, entry); err == nil {
			t.Errorf("%q is taken", entry)
		}
	}
}
