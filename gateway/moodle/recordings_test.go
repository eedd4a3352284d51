package moodle

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"jumpgate/gateway"
)

// recording is one recorded session and what it is known to mean.
type recording struct {
	Raw        []byte            `json:"-"`
	Summary    Summary           `json:"summary"`
	RealUserID int64             `json:"realuserid"`
	SID        string            `json:"sid"`
	Prefix     string            `json:"prefix"`
	Hash       map[string][]byte `json:"hash"` // the other fields, raw; nil for a 4.1 string
	User       map[string]string `json:"user"` // nil if nobody is logged in
}

func (r recording) user() gateway.User {
	if r.User == nil {
		return gateway.User{MnetHostID: r.Summary.MnetHostID}
	}
	return gateway.User{
		ID: r.Summary.UserID, Username: r.Summary.Username, MnetHostID: r.Summary.MnetHostID,
		FirstName: r.User["firstname"], LastName: r.User["lastname"], Email: r.User["email"],
		Auth: r.User["auth"], City: r.User["city"], Country: r.User["country"], Lang: r.User["lang"],
		Timezone: r.User["timezone"], MailFormat: r.User["mailformat"], MailDigest: r.User["maildigest"],
		MailDisplay: r.User["maildisplay"], Picture: r.User["picture"],
	}
}

func recordings(t testing.TB) map[string]recording {
	t.Helper()
	raw, err := os.ReadFile("testdata/sessions.json")
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]recording
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	for name, r := range all {
		if r.Raw, err = os.ReadFile(filepath.Join("testdata/sessions", name+".bin")); err != nil {
			t.Fatal(err)
		}
		all[name] = r
	}
	if len(all) < 29 {
		t.Fatalf("only %d recordings", len(all))
	}
	return all
}
