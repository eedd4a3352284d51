package gateway_test

import (
	"strings"
	"testing"

	"jumpgate/gateway"
)

func TestUsernames(t *testing.T) {
	var college, plain gateway.Usernames
	college.Strip = "@college.example"
	for account, username := range map[string]string{
		"Ada.King@college.example":  "ada",     // married, and known to peers as ada
		"guest@elsewhere.example":   "visitor", // not of the college
		"müller@college.example":    "müller",
		"long-gone@college.example": "grace",
	} {
		if err := college.List(account, username); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name, account, want string
		usernames           gateway.Usernames
	}{
		{"a name as it is", "ada", "ada", plain},
		{"letters become small", "Ada.LOVELACE@College.example", "ada.lovelace@college.example", plain},
		{"the end is stripped", "Bob@College.Example", "bob", college},
		{"a listed account has its own", "ada.king@college.example", "ada", college},
		{"whatever its letters", "ADA.KING@COLLEGE.EXAMPLE", "ada", college},
		{"a listed one needs no end to strip", "guest@elsewhere.example", "visitor", college},
		{"a listed username may have other letters", "müller@college.example", "müller", college},
		{"nobody else gets a listed username", "ada@college.example", "", college},
		{"nor by its bare name", "ada", "", college},
		{"without the end it is somebody else's", "bob", "", college},
		{"as is one of another college", "bob@other.example", "", college},
		{"what remains must be something", "@college.example", "", college},
		{"only one end is stripped", "bob@college.example@college.example", "bob@college.example", college},
		{"nothing", "", "", plain},
		{"Moodle's guest", "Guest", "", plain},
		{"a blank", "ada lovelace", "", plain},
		{"a line", "ada\n", "", plain},
		{"a null byte", "ada\x00", "", plain},
		{"a letter that becomes a k", "\u212aate", "", plain},
		{"nor is it a listed one", "ada.\u212aing@college.example", "", college},
		{"a guest of the tenant", "bob_gmail.com#EXT#@college.onmicrosoft.com", "", plain},
		{"a path", "../ada", "", plain},
		{"100 bytes", strings.Repeat("a", 100), strings.Repeat("a", 100), plain},
		{"101 bytes", strings.Repeat("a", 101), "", plain},
		{"no text", "a\xff", "", plain},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, ok := test.usernames.Of(test.account)
			if got != test.want || ok != (test.want != "") {
				t.Errorf("%q is %q, %v; want %q", test.account, got, ok, test.want)
			}
		})
	}
}

func TestUsernamesThatCannotBeListed(t *testing.T) {
	for _, test := range []struct{ name, account, username, want string }{
		{"an account twice", "ADA@college.example", "ada2", `the account "ada@college.example" is listed twice`},
		{"a username twice", "grace@college.example", "ada", `the username "ada" is given to two accounts`},
		{"no account", "", "x", "the account has no name"},
		{"no username", "x", "", "the username is empty"},
		{"capital letters", "x", "Ada", `the username "Ada" has a capital letter: Moodle's have none`},
		{"a line", "x", "a\nb", `the username "a\nb" has a character that no username has`},
		{"a blank at the end", "x", "ada ", `the username "ada " has a character that no username has`},
		{"no text", "x", "a\xff", `the username "a\xff" has a character that no username has`},
		{"a long one", "x", strings.Repeat("ü", 51), "the username is longer than 100 bytes"},
		{"the guest", "x", "guest", "the username guest is that of Moodle's guest account"},
	} {
		var u gateway.Usernames
		if err := u.List("ada@college.example", "ada"); err != nil {
			t.Fatal(err)
		}
		if err := u.List(test.account, test.username); err == nil || err.Error() != test.want {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// small makes a capital letter of ASCII small.
func small(c rune) rune {
	if c >= 'A' && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// FuzzUsernames looks for two accounts with one username.
func FuzzUsernames(f *testing.F) {
	var u gateway.Usernames
	u.Strip = "@college.example"
	if err := u.List("ada.king@college.example", "ada"); err != nil {
		f.Fatal(err)
	}
	if err := u.List("müller@college.example", "müller"); err != nil {
		f.Fatal(err)
	}
	for _, account := range []string{"ada@college.example", "ADA.KING@college.example", "\u212aate@college.example", "x@college.example@college.example", "müller", "a\xff"} {
		f.Add(account, strings.ToUpper(account))
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		one, ok := u.Of(a)
		other, ok2 := u.Of(b)
		if ok && (one == "" || len(one) > 100 || one == "guest" || one != strings.ToLower(one)) {
			t.Errorf("%q has the username %q", a, one)
		}
		if ok && ok2 && one == other && strings.Map(small, a) != strings.Map(small, b) {
			t.Errorf("%q and %q both have the username %q", a, b, one)
		}
	})
}
