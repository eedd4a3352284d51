package gateway_test

import (
	"testing"

	"jumpgate/gateway"
)

func TestStanding(t *testing.T) {
	ada := gateway.User{ID: 3, Username: "ada", FirstName: "Ada", LastName: "Lovelace", Email: "ada@idp.test"}
	with := func(change func(*gateway.Identity)) gateway.Identity {
		id := gateway.Identity{User: ada}
		change(&id)
		return id
	}
	tests := []struct {
		name     string
		identity gateway.Identity
		loggedIn bool
		rule     gateway.Rule
	}{
		{"nobody is not logged in", gateway.Identity{}, false, ""},
		{"a local user may jump", with(func(*gateway.Identity) {}), true, "ok"},
		{"a guest is not logged in", with(func(id *gateway.Identity) { id.Guest = true }), false, ""},
		{"a missing factor is a missing login", with(func(id *gateway.Identity) { id.MFAPending = true }), false, ""},
		{"a password that must be changed is a login to be completed", with(func(id *gateway.Identity) { id.PasswordDue = true }), false, ""},
		{"a remote user may not", with(func(id *gateway.Identity) { id.Remote = true }), true, "user-remote"},
		{"an administrator as somebody else may not", with(func(id *gateway.Identity) { id.LoginAs = true }), true, "user-login-as"},
		{"a suspended user may not", with(func(id *gateway.Identity) { id.User.Suspended = true }), true, "user-suspended"},
		{"a deleted user may not", with(func(id *gateway.Identity) { id.User.Deleted = true }), true, "user-deleted"},
		{"a user without a mail address may not", with(func(id *gateway.Identity) { id.User.Email = "" }), true, "user-incomplete"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := test.identity.LoggedIn(); got != test.loggedIn {
				t.Fatalf("LoggedIn() = %v", got)
			}
			if got := test.identity.Standing(); test.loggedIn && got != test.rule {
				t.Errorf("Standing() = %s, want %s", got, test.rule)
			}
		})
	}
}
