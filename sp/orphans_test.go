package sp_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway"
	"jumpgate/gateway/moodle"
	"jumpgate/sp"
)

const (
	homeA = "https://a.test"
	homeB = "https://b.test"
)

// remotes are accounts of learners of other sites, numbered from 10.
func remotes(all ...moodle.RemoteAccount) *moodle.Accounts {
	a := &moodle.Accounts{Wwwroot: "https://forum.test", LocalHostID: 1}
	for i, r := range all {
		if r.ID = int64(10 + i); r.Auth == "" {
			r.Auth = "mnet"
		}
		a.Remote = append(a.Remote, r)
	}
	return a
}

func TestOrphans(t *testing.T) {
	ada := moodle.RemoteAccount{Username: "ada", Wwwroot: homeA, Email: "ada@a.test"}
	local := func(a *moodle.Accounts, l ...moodle.LocalAccount) *moodle.Accounts { a.Local = l; return a }
	links := func(a *moodle.Accounts, l ...moodle.LinkedLogin) *moodle.Accounts { a.Links = l; return a }
	for _, test := range []struct {
		name     string
		template string
		issuer   int64
		accounts *moodle.Accounts
		want     []string // id, home, peer, name, problems
	}{
		{"an account keeps its username and gets its home", gateway.DefaultNames, 0, remotes(ada), []string{"10 a.test ada@a.test []"}},
		{"a home under its old name is the same", gateway.DefaultNames, 0, remotes(moodle.RemoteAccount{Username: "ada", Wwwroot: "https://old.test"}), []string{"10 a.test ada@a.test []"}},
		{"a home that is no peer", gateway.DefaultNames, 0, remotes(moodle.RemoteAccount{Username: "ada", Wwwroot: "https://x.test"}), []string{"10 - ada@x.test []"}},
		{"a home that nobody knows", gateway.DefaultNames, 0, remotes(moodle.RemoteAccount{Username: "ada"}), []string{"10 -  [no-name: the username is that of no home]"}},
		{"a username that is no text", gateway.DefaultNames, 0, remotes(moodle.RemoteAccount{Username: "a\nb", Wwwroot: homeA}), []string{"10 a.test  [no-name: the username is not text]"}},
		{"a username of which mysql has lost a letter", gateway.DefaultNames, 0, remotes(moodle.RemoteAccount{Username: "ad?", Wwwroot: homeA}),
			[]string{"10 a.test  [no-name: the ? may be a letter that mysql has not written, for want of --default-character-set=utf8mb4]"}},
		{"one person under two names of a home", gateway.DefaultNames, 0, remotes(ada, moodle.RemoteAccount{Username: "ada", Wwwroot: "https://old.test"}),
			[]string{"10 a.test ada@a.test [same-name: account 11]", "11 a.test ada@a.test [same-name: account 10]"}},
		{"a local account with the new name", gateway.DefaultNames, 0, local(remotes(ada), moodle.LocalAccount{ID: 3, Username: "ADA@a.test"}), []string{"10 a.test ada@a.test [name-taken: account 3]"}},
		{"a local account with the old name", gateway.DefaultNames, 0, local(remotes(ada), moodle.LocalAccount{ID: 3, Username: "ada"}), []string{"10 a.test ada@a.test []"}},
		{"a local account with the same mail address", gateway.DefaultNames, 0,
			local(remotes(ada), moodle.LocalAccount{ID: 3, Username: "x", Email: "Ada@A.test"}, moodle.LocalAccount{ID: 4, Username: "y", Email: "ada@a.test"}),
			[]string{"10 a.test ada@a.test [same-mail: account 3 and 1 more]"}},
		{"no mail address is not the same", gateway.DefaultNames, 0,
			local(remotes(moodle.RemoteAccount{Username: "ada", Wwwroot: homeA}, moodle.RemoteAccount{Username: "bob", Wwwroot: homeA}), moodle.LocalAccount{ID: 3, Username: "x"}),
			[]string{"10 a.test ada@a.test []", "11 a.test bob@a.test []"}},
		{"one mail address at three homes", gateway.DefaultNames, 0,
			remotes(ada, moodle.RemoteAccount{Username: "bob", Wwwroot: homeB, Email: "ada@a.test"}, moodle.RemoteAccount{Username: "eve", Wwwroot: homeB, Email: "ADA@a.test"}),
			[]string{"10 a.test ada@a.test [shared-mail: account 11 and 1 more]", "11 b.test bob@b.test [shared-mail: account 10 and 1 more]", "12 b.test eve@b.test [shared-mail: account 10 and 1 more]"}},
		{"plain, with two peers", gateway.PlainNames, 0, remotes(ada, moodle.RemoteAccount{Username: "bob", Wwwroot: homeB}),
			[]string{"10 a.test ada [home-collision: https://b.test]", "11 b.test bob [home-collision: https://a.test]"}},
		{"plain, with a peer and a home of the past", gateway.PlainNames, 0, remotes(ada, moodle.RemoteAccount{Username: "bob", Wwwroot: "https://x.test"}),
			[]string{"10 a.test ada []", "11 - bob [home-collision: https://a.test]"}},
		{"plain, with two peers and a home of the past", gateway.PlainNames, 0,
			remotes(ada, moodle.RemoteAccount{Username: "bob", Wwwroot: homeB}, moodle.RemoteAccount{Username: "eve", Wwwroot: "http://a.test"}),
			[]string{"12 - eve [home-collision: https://b.test]", "10 a.test ada [home-collision: https://b.test]", "11 b.test bob [home-collision: https://a.test]"}},
		{"plain, and the name of the administrator", gateway.PlainNames, 0, local(remotes(moodle.RemoteAccount{Username: "admin", Wwwroot: homeA}), moodle.LocalAccount{ID: 2, Username: "admin"}),
			[]string{"10 a.test admin [name-taken: account 2]"}},
		{"an account that MNet did not let in", gateway.DefaultNames, 0, remotes(moodle.RemoteAccount{Username: "ada", Wwwroot: homeA, Denied: true}),
			[]string{"10 a.test ada@a.test [denied: by Moodle's access control for MNet]"}},
		{"an account that nobody can log in to", gateway.DefaultNames, 0, remotes(moodle.RemoteAccount{Username: "ada", Wwwroot: homeA, Auth: "nologin"}),
			[]string{"10 a.test ada@a.test [other-auth: it is not mnet]"}},
		{"a link that keeps the account settles the rest", gateway.DefaultNames, 5,
			links(local(remotes(ada), moodle.LocalAccount{ID: 3, Username: "ada@a.test"}), moodle.LinkedLogin{UserID: 10, IssuerID: 5, Username: "ada@a.test", Confirmed: true}),
			[]string{"10 a.test ada@a.test linked []"}},
		{"but for the mail address", gateway.DefaultNames, 5,
			links(local(remotes(ada), moodle.LocalAccount{ID: 3, Username: "x", Email: "ada@a.test"}), moodle.LinkedLogin{UserID: 10, IssuerID: 5, Username: "ada@a.test", Confirmed: true}),
			[]string{"10 a.test ada@a.test linked [same-mail: account 3]"}},
		{"a link of another issuer does not", gateway.DefaultNames, 5,
			links(local(remotes(ada), moodle.LocalAccount{ID: 3, Username: "x", Email: "ada@a.test"}), moodle.LinkedLogin{UserID: 10, IssuerID: 6, Username: "ada@a.test", Confirmed: true}),
			[]string{"10 a.test ada@a.test [same-mail: account 3]"}},
		{"a link to somebody else", gateway.DefaultNames, 5, links(remotes(ada), moodle.LinkedLogin{UserID: 3, IssuerID: 5, Username: "ada@a.test", Confirmed: true}), []string{"10 a.test ada@a.test [link-taken: account 3]"}},
		{"a link that waits for a confirmation", gateway.DefaultNames, 5, links(remotes(ada), moodle.LinkedLogin{UserID: 10, IssuerID: 5, Username: "ada@a.test"}), []string{"10 a.test ada@a.test [link-taken: account 10]"}},
		{"two links of one name", gateway.DefaultNames, 5,
			links(remotes(ada), moodle.LinkedLogin{UserID: 10, IssuerID: 5, Username: "ada@a.test", Confirmed: true}, moodle.LinkedLogin{UserID: 3, IssuerID: 5, Username: "ada@a.test", Confirmed: true}),
			[]string{"10 a.test ada@a.test [link-taken: account 3]"}},
		{"names that MySQL takes to be the same", gateway.DefaultNames, 5,
			links(local(remotes(ada), moodle.LocalAccount{ID: 3, Username: "àda@a.test"}), moodle.LinkedLogin{UserID: 4, IssuerID: 5, Username: "ａda@a.test", Confirmed: true}),
			[]string{"10 a.test ada@a.test [name-taken: account 3 link-taken: account 4]"}},
		{"a link to a name that only MySQL takes to be the same", gateway.DefaultNames, 5,
			links(remotes(ada), moodle.LinkedLogin{UserID: 10, IssuerID: 5, Username: "Ada@a.test", Confirmed: true}), []string{"10 a.test ada@a.test [link-taken: account 10]"}},
		{"mail addresses that MySQL takes to be the same", gateway.DefaultNames, 0,
			local(remotes(moodle.RemoteAccount{Username: "ada", Wwwroot: homeA, Email: "groß@a.test"}, moodle.RemoteAccount{Username: "bob", Wwwroot: homeB, Email: "GROSS@a.test"},
				moodle.RemoteAccount{Username: "eve", Wwwroot: homeB, Email: "\U0001F600@a.test"}, moodle.RemoteAccount{Username: "dan", Wwwroot: homeB, Email: "d-a.n@a.test"}),
				moodle.LocalAccount{ID: 3, Username: "x", Email: "gröss@a.test"}, moodle.LocalAccount{ID: 4, Username: "y", Email: "\U0001F60E@a.test"}, moodle.LocalAccount{ID: 5, Username: "z", Email: "dan@a.test"}),
			[]string{"10 a.test ada@a.test [same-mail: account 3 shared-mail: account 11]", "11 b.test bob@b.test [same-mail: account 3 shared-mail: account 10]",
				"12 b.test eve@b.test [same-mail: account 4]", "13 b.test dan@b.test []"}},
		{"nobody asks for links", gateway.DefaultNames, 0, links(remotes(ada), moodle.LinkedLogin{UserID: 3, IssuerID: 5, Username: "ada@a.test", Confirmed: true}), []string{"10 a.test ada@a.test []"}},
	} {
		peers, err := gateway.NewAllowlist(
			&gateway.Peer{Wwwroot: wwwroot(t, homeA), Aliases: []gateway.Wwwroot{wwwroot(t, "https://old.test")}},
			&gateway.Peer{Wwwroot: wwwroot(t, homeB)})
		if err != nil {
			t.Fatal(err)
		}
		names, err := gateway.ParseAccountNames(test.template)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, o := range sp.Orphans(test.accounts, peers, names, test.issuer) {
			peer, linked := "-", ""
			if o.Peer != nil {
				peer = o.Peer.Label()
			}
			if o.Linked {
				linked = "linked "
			}
			got = append(got, fmt.Sprintf("%d %s %s %s%v", o.ID, peer, o.Name, linked, o.Problems))
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

func TestAHomeThatHasSentNobodyYetCollidesToo(t *testing.T) {
	peers, err := gateway.NewAllowlist(&gateway.Peer{Wwwroot: wwwroot(t, homeA)},
		&gateway.Peer{Wwwroot: wwwroot(t, homeB), Subscribe: []string{gateway.ServiceSSOIDP}})
	if err != nil {
		t.Fatal(err)
	}
	plain, err := gateway.ParseAccountNames(gateway.PlainNames)
	if err != nil {
		t.Fatal(err)
	}
	got := sp.Orphans(remotes(moodle.RemoteAccount{Username: "ada", Wwwroot: homeA}), peers, plain, 0)
	if len(got) != 1 || len(got[0].Problems) != 1 || got[0].Problems[0].String() != "home-collision: https://b.test" {
		t.Errorf("%+v", got)
	}
}
