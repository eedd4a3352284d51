package moodle

import "testing"

func TestParseSessionSeesAPasswordThatMustBeChanged(t *testing.T) {
	tests := map[string]struct {
		preference string
		want       bool
	}{
		"asked for by the administrator": {`a:2:{s:1:"x";s:1:"1";s:24:"auth_forcepasswordchange";s:1:"1";}`, true},
		"as a number":                    {`a:1:{s:24:"auth_forcepasswordchange";i:1;}`, true},
		"not any more":                   {`a:1:{s:24:"auth_forcepasswordchange";s:1:"0";}`, false},
		"not at all":                     {`a:1:{s:1:"x";s:1:"1";}`, false},
		"deeper, where it means nothing": {`a:1:{s:1:"x";a:1:{s:24:"auth_forcepasswordchange";s:1:"1";}}`, false},
		"no preferences yet":             {"N;", false},
		"preferences of another type":    {`O:8:"stdClass":1:{s:24:"auth_forcepasswordchange";s:1:"1";}`, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, err := ParseSession(phpString("USER|" + stdClass("id", "i:3;", "preference", tt.preference, "username", `s:3:"eva";`)))
			if err != nil {
				t.Fatal(err)
			}
			if s.PasswordDue != tt.want || s.User.Username != "eva" {
				t.Errorf("session %+v", s)
			}
			if id := s.Identity(0, false); id.PasswordDue != tt.want || id.LoggedIn() == tt.want {
				t.Errorf("identity %+v", id)
			}
		})
	}
	worn := "REALUSER|" + stdClass("id", "i:2;") + "USER|" + stdClass("id", "i:3;", "preference", `a:1:{s:24:"auth_forcepasswordchange";s:1:"1";}`)
	if s, err := ParseSession(phpString(worn)); err != nil || s.Identity(0, false).PasswordDue {
		t.Errorf("log in as: %+v, %v", s, err)
	}
}
