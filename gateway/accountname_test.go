package gateway_test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway"
)

func accountNames(t testing.TB, template string) gateway.AccountNames {
	t.Helper()
	n, err := gateway.ParseAccountNames(template)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAccountNames(t *testing.T) {
	const home = "https://home.example.org"
	for _, test := range []struct{ name, template, home, username, want string }{
		{"a username and the host of its home", gateway.DefaultNames, home, "ada", "ada@home.example.org"},
		{"the path of a home is no part of it", gateway.DefaultNames, home + "/moodle", "ada", "ada@home.example.org"},
		{"its port is", gateway.DefaultNames, "http://localhost:8081", "ada", "ada@localhost_-3a-8081"},
		{"an IPv6 address", gateway.DefaultNames, "http://[::1]", "ada", "ada@_-5b-_-3a-_-3a-1_-5d-"},
		{"what Moodle allows stays", gateway.DefaultNames, home, "a.d_a-9@x.test", "a.d_a-9@x.test@home.example.org"},
		{"a letter with a mark", gateway.DefaultNames, home, "müller", "m_-fc-ller@home.example.org"},
		{"the same letter with the mark on its own", gateway.DefaultNames, home, "mu\u0308ller", "mu_-308-ller@home.example.org"},
		{"another alphabet", gateway.DefaultNames, home, "яна", "_-44f-_-43d-_-430-@home.example.org"},
		{"a blank", gateway.DefaultNames, home, "ada king", "ada_-20-king@home.example.org"},
		{"a capital letter", gateway.DefaultNames, home, "Ada", "_-41-da@home.example.org"},
		{"what looks like a number", gateway.DefaultNames, home, "m_-fc-ller", "m_-5f--fc-ller@home.example.org"},
		{"an underscore before a number", gateway.DefaultNames, home, "_ü_", "__-fc-_@home.example.org"},
		{"another template", "{username}.{idp host}.mnet", home, "ada", "ada.home.example.org.mnet"},
		{"plain", gateway.PlainNames, home, "ada", "ada"},
		{"plain, with what Moodle does not allow", gateway.PlainNames, home, "müller", "m_-fc-ller"},
	} {
		w, err := gateway.ParseWwwroot(test.home)
		if err != nil {
			t.Fatal(err)
		}
		n := accountNames(t, test.template)
		if got, err := n.Of(w, test.username); err != nil || got != test.want {
			t.Errorf("%s: %q, %v", test.name, got, err)
		}
		if back, err := n.Username(w, test.want); err != nil || back != test.username {
			t.Errorf("%s: it is the name of %q, %v", test.name, back, err)
		}
		if n.String() != test.template {
			t.Errorf("the template %q became %q", test.template, n)
		}
	}
}

func TestNamesOfNobodyAtHome(t *testing.T) {
	home := wwwroot(t, "https://home.example.org")
	for _, name := range []string{
		"", "@home.example.org", "ada", "ada@other.example.org", "Ada@home.example.org", "ada_-20@home.example.org", "ada_-zz-@home.example.org",
		"ada_--@home.example.org", "_-61-da@home.example.org", "ada_-0-@home.example.org", "_-ffffffffff-@home.example.org", "_--61-@home.example.org", "_-d800-@home.example.org",
	} {
		if username, err := accountNames(t, gateway.DefaultNames).Username(home, name); err == nil {
			t.Errorf("%q is the name of %q", name, username)
		}
	}
}

func TestAccountNamesRefuse(t *testing.T) {
	home := wwwroot(t, "https://home.example.org")
	for _, test := range []struct{ name, template, username, want string }{
		{"nobody", gateway.DefaultNames, "", "the username is empty"},
		{"no UTF-8", gateway.DefaultNames, "a\xff", "the username is not text"},
		{"a line", gateway.DefaultNames, "a\nb", "the username is not text"},
		{"what Moodle's column does not hold", gateway.DefaultNames, strings.Repeat("a", 84), "the name would be longer than 100 characters"},
		{"what is too long when it is written", gateway.DefaultNames, strings.Repeat("ü", 20), "the name would be longer than 100 characters"},
		{"the guest", gateway.PlainNames, "guest", "the name would be that of Moodle's guest account"},
	} {
		if got, err := accountNames(t, test.template).Of(home, test.username); err == nil || err.Error() != test.want {
			t.Errorf("%s: %q, %v", test.name, got, err)
		}
	}
	if _, err := accountNames(t, gateway.DefaultNames).Of(home, strings.Repeat("a", 83)); err != nil {
		t.Errorf("a name of 100 characters: %v", err)
	}
	if _, err := accountNames(t, gateway.PlainNames).Of(gateway.Wwwroot{}, "ada"); err == nil {
		t.Error("a learner of no home has a name")
	}
}

func TestParseAccountNamesRefuses(t *testing.T) {
	for _, template := range []string{
		"", "ada", "Plain", "{username}", "{idp host}", "{idp host}-{username}", "x{username}@{idp host}", "{username}{username}@{idp host}",
		"{username}@{idp host}{idp host}", "{username}+{idp host}", "{username}@{idp host} ", "{username}@{idphost}", "{username}@{idp host}'", "{username}@{idp host}Ü", "{Username}@{idp host}",
	} {
		if n, err := gateway.ParseAccountNames(template); err == nil {
			t.Errorf("%q was taken for %q", template, n)
		}
	}
}

func TestAccountNamesCollide(t *testing.T) {
	const a, b = "https://a.test", "https://b.test"
	for _, test := range []struct {
		name, template string
		homes          []string
		want           []string
	}{
		{"different hosts", gateway.DefaultNames, []string{a, b, "https://x.a.test", "https://a.test:8443"}, nil},
		{"two sites of one host", gateway.DefaultNames, []string{a + "/x", b, a + "/y"}, []string{a + "/x " + a + "/y"}},
		{"two schemes of one host", gateway.DefaultNames, []string{a, "http://a.test"}, []string{a + " http://a.test"}},
		{"one home by its username", gateway.PlainNames, []string{a}, nil},
		{"two homes by their usernames", gateway.PlainNames, []string{a, b}, []string{a + " " + b}},
		{"a host that is the end of another", "{username}.{idp host}", []string{"https://x.a.test", a, b}, []string{a + " https://x.a.test"}},
		{"a separator that hosts do not have", "{username}@{idp host}.mnet", []string{"https://x.a.test", a}, nil},
	} {
		var homes []gateway.Wwwroot
		for _, h := range test.homes {
			homes = append(homes, wwwroot(t, h))
		}
		var got []string
		for _, pair := range accountNames(t, test.template).Collisions(homes...) {
			got = append(got, pair[0].String()+" "+pair[1].String())
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

func TestTheNameOfALearnerSaysTheirHome(t *testing.T) {
	grants := func(name string, home bool) *gateway.Peer {
		p := &gateway.Peer{Wwwroot: wwwroot(t, name)}
		if home {
			p.Publish, p.Subscribe = []string{gateway.ServiceSSOSP}, []string{gateway.ServiceSSOIDP}
		}
		return p
	}
	several := []*gateway.Peer{
		grants("https://forum.test", false), grants("https://a.test/forum", false), grants("https://a.test/moodle", true), grants("https://b.test:8443", true),
	}
	tests := []struct {
		name, template string
		peers          []*gateway.Peer
		account        string
		home, username string
	}{
		{"of one home among several", gateway.DefaultNames, several, "ada@a.test", "https://a.test/moodle", "ada"},
		{"with a port and a letter that names do not have", gateway.DefaultNames, several, "m_-fc-ller@b.test_-3a-8443", "https://b.test:8443", "müller"},
		{"not of a peer that is no home", gateway.DefaultNames, several, "ada@forum.test", "", ""},
		{"not of who has only the host of one", gateway.DefaultNames, several, "@a.test", "", ""},
		{"not in capitals, which no name has", gateway.DefaultNames, several, "Ada@a.test", "", ""},
		{"not written otherwise than it is made", gateway.DefaultNames, several, "_-61-da@a.test", "", ""},
		{"of the only home, if that is not in it", gateway.PlainNames, several[1:3], "ada", "https://a.test/moodle", "ada"},
		{"and of neither of two", gateway.PlainNames, several, "ada", "", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			names, err := gateway.ParseAccountNames(test.template)
			if err != nil {
				t.Fatal(err)
			}
			peers, err := gateway.NewAllowlist(test.peers...)
			if err != nil {
				t.Fatal(err)
			}
			home, username := names.HomeOf(peers, test.account)
			got := ""
			if home != nil {
				got = home.Wwwroot.String()
			}
			if got != test.home || username != test.username {
				t.Errorf("%q is %q of %q", test.account, username, got)
			}
		})
	}
}

// number is how a character is written that names do not have.
var number = regexp.MustCompile(`_-([0-9a-f]+)-`)

// FuzzAccountNames looks for two learners with one name, for a name that Moodle
// refuses, and for one that cannot be read back.
func FuzzAccountNames(f *testing.F) {
	for _, template := range []string{gateway.DefaultNames, gateway.PlainNames, "{username}.{idp host}", "{username}_{idp host}", "{username}_-{idp host}-", "{username}{idp host}"} {
		f.Add(template, "https://a.test", "x", "https://x.a.test", "x.a.test")
		f.Add(template, "http://localhost:80", "müller", "http://localhost:81", "m_-fc-ller")
		f.Add(template, "http://localhost_-x", "_", "http://localhost_", "-_-5f--")
	}
	f.Fuzz(func(t *testing.T, template, homeA, userA, homeB, userB string) {
		n, err := gateway.ParseAccountNames(template)
		a, errA := gateway.ParseWwwroot(homeA)
		b, errB := gateway.ParseWwwroot(homeB)
		if err != nil || errA != nil || errB != nil {
			return
		}
		one, errA := n.Of(a, userA)
		other, errB := n.Of(b, userB)
		if errA == nil {
			if len(one) > 100 || strings.ContainsFunc(one, func(c rune) bool { return c > unicode.MaxASCII }) || !regexp.MustCompile(`^[-._@a-z0-9]+$`).MatchString(one) {
				t.Errorf("%q is no username", one)
			}
			suffix, _ := strings.CutPrefix(mustOf(t, n, a, "x"), "x")
			read := number.ReplaceAllStringFunc(strings.TrimSuffix(one, suffix), func(s string) string {
				c, err := strconv.ParseInt(number.FindStringSubmatch(s)[1], 16, 32)
				if err != nil {
					t.Fatal(err)
				}
				return string(rune(c))
			})
			if read != userA {
				t.Errorf("%q, made of %q, reads %q", one, userA, read)
			}
			if back, err := n.Username(a, one); err != nil || back != userA {
				t.Errorf("%q, made of %q, is read as %q, %v", one, userA, back, err)
			}
		}
		if errA != nil || errB != nil || one != other || a == b && userA == userB {
			return
		}
		if a == b || len(n.Collisions(a, b)) == 0 {
			t.Errorf("%q of %s and %q of %s both are %q", userA, a, userB, b, one)
		}
	})
}

// mustOf returns the name of a learner who must have one.
func mustOf(t *testing.T, n gateway.AccountNames, home gateway.Wwwroot, username string) string {
	t.Helper()
	name, err := n.Of(home, username)
	if err != nil {
		t.Skip(err) // the host alone is too long
	}
	return name
}
