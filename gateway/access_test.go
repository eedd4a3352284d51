package gateway_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway"
)

// userList is a list of the words in s.
func userList(t testing.TB, s string) *gateway.UserList {
	t.Helper()
	u, err := gateway.NewUserList(strings.Fields(s)...)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestAccess(t *testing.T) {
	tests := []struct {
		name        string
		allow, deny string // "-" for none
		yes, no     string
	}{
		{"without lists everybody may", "-", "-", "ada bob", ""},
		{"who is denied may not", "-", "bob", "ada bobby", "bob"},
		{"with an allow list nobody else may", "ada", "-", "ada", "bob adam"},
		{"an empty allow list is nobody", "", "-", "", "ada"},
		{"an empty deny list is nobody", "-", "", "ada", ""},
		{"who is both allowed and denied may not", "ada bob", "bob", "ada", "bob carol"},
		{"usernames have no upper case", "Ada", "BOB", "ada ADA", "bob Bob"},
		{"letters of other alphabets neither", "ÉMILE", "-", "émile Émile", "emile"},
		{"a star stands for any text", "student-*", "-", "student-1 student-", "student teacher-student-1"},
		{"at the beginning too", "-", "*@guest.test", "ada@home.test", "x@guest.test @guest.test"},
		{"and in the middle, where its ends do not overlap", "aba*aba", "-", "abaaba aba-aba", "aba ababa"},
		{"a star alone is everybody", "-", "*", "", "ada"},
		{"a pattern that denies wins over a name that is allowed", "student-ada", "student-*", "", "student-ada"},
		{"other signs stand for themselves", "a.b a?c a[d]", "-", "a.b a?c a[d]", "axb abc ad"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var a gateway.Access
			if test.allow != "-" {
				a.Allow = userList(t, test.allow)
			}
			if test.deny != "-" {
				a.Deny = userList(t, test.deny)
			}
			for _, name := range strings.Fields(test.yes) {
				if !a.Allows(name) {
					t.Errorf("%s may not", name)
				}
			}
			for _, name := range strings.Fields(test.no) {
				if a.Allows(name) {
					t.Errorf("%s may", name)
				}
			}
		})
	}
}

func TestToRoamTheSiteAndThePeerMustBothAllow(t *testing.T) {
	site := gateway.Access{Deny: userList(t, "bob")}
	peer := &gateway.Peer{Roam: gateway.Access{Allow: userList(t, "ada bob")}}
	for name, want := range map[string]bool{"ada": true, "bob": false, "carol": false} {
		if got := gateway.MayRoam(site, peer, name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestUsernamesAreKeptInOrder(t *testing.T) {
	got := userList(t, "s-* bob Ada bob *x").Entries()
	if diff := cmp.Diff([]string{"ada", "bob", "s-*", "*x"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestUsernamesThatAreNone(t *testing.T) {
	for _, s := range []string{"", " ada", "ada bob", "ada,bob", "ada;", "ada\t", "a\nb", "a\x00", "\xff", "a*b*", strings.Repeat("ä", 101)} {
		if _, err := gateway.NewUserList(s); err == nil {
			t.Errorf("%q is accepted", s)
		}
	}
	if _, err := gateway.NewUserList(strings.Repeat("ä", 100)); err != nil {
		t.Error(err)
	}
}
