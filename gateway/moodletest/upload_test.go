package moodletest

import (
	"bytes"
	"encoding/json"
	"image/color"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"jumpgate/gateway"
)

// TestPicturesAreTakenAsARealMoodleTakesThem uploads one and gives it to
// everybody, with what core_user_update_picture says no to (source).
func TestPicturesAreTakenAsARealMoodleTakesThem(t *testing.T) {
	account := func(name string, change func(*User)) User {
		u := User{User: gateway.User{Username: name, Auth: "shibboleth", FirstName: "A", LastName: "B", Email: name}}
		if change != nil {
			change(&u)
		}
		return u
	}
	f, err := NewForum(ForumOptions{Wwwroot: mustWwwroot(t, "http://forum.test"), Shibboleth: true, Token: "secret", Users: []User{
		account("ada@home.test", nil),
		account("root", func(u *User) { u.Admin = true }),
		account("bob", func(u *User) { u.Auth, u.MnetHostID = "mnet", 3 }),
		account("gone", func(u *User) { u.Deleted = true }),
	}})
	if err != nil {
		t.Fatal(err)
	}
	post := func(page, contentType, body string) (answer string) {
		r := httptest.NewRequest("POST", "http://forum.test"+page, strings.NewReader(body))
		r.Header.Set("Content-Type", contentType)
		w := httptest.NewRecorder()
		if f.ServeHTTP(w, r); w.Code != http.StatusOK {
			t.Fatalf("%s: status %d", page, w.Code)
		}
		return w.Body.String()
	}
	upload := func(token string, file []byte) string {
		var form bytes.Buffer
		parts := multipart.NewWriter(&form)
		if err := parts.WriteField("token", token); err != nil {
			t.Fatal(err)
		}
		part, err := parts.CreateFormFile("picture", "picture.png")
		if err != nil {
			t.Fatal(err)
		}
		part.Write(file)
		parts.Close()
		return post("/webservice/upload.php", parts.FormDataContentType(), form.String())
	}
	draft := func(file []byte) string {
		var files []struct{ ItemID int64 }
		if answer := upload("secret", file); json.Unmarshal([]byte(answer), &files) != nil || len(files) != 1 {
			t.Fatalf("an upload is answered %s", answer)
		}
		return strconv.FormatInt(files[0].ItemID, 10)
	}
	for name, answer := range map[string]string{
		"another token": upload("other", nil),
		"no form":       post("/webservice/upload.php", "text/plain", "token=secret"),
	} {
		if !strings.Contains(answer, `"errorcode":"`) {
			t.Errorf("%s: %s", name, answer)
		}
	}
	blue, page := SamplePicture(color.RGBA{B: 255, A: 255}), []byte("<html>")
	picture := draft(blue)
	for _, test := range []struct{ user, draft, want string }{
		{"ada@home.test", picture, `"success":true`},
		{"ada@home.test", draft(page), `"success":false`},
		{"ada@home.test", "7", `"success":false`},
		{"ada@home.test", "x", `"errorcode":"invalidparameter"`},
		{"root", picture, `"errorcode":"useradmineditadmin"`},
		{"bob", picture, `"errorcode":"noprofileedit"`},
		{"gone", picture, `"errorcode":"userdeleted"`},
		{"guest", picture, `"errorcode":"guestsarenotallowed"`},
		{"nobody", picture, `"errorcode":"invaliduser"`},
	} {
		u, _ := f.users.find(func(u *User) bool { return u.Username == test.user })
		answer := post("/webservice/rest/server.php", "application/x-www-form-urlencoded", url.Values{
			"wstoken": {"secret"}, "wsfunction": {"core_user_update_picture"}, "moodlewsrestformat": {"json"},
			"draftitemid": {test.draft}, "userid": {strconv.FormatInt(u.ID, 10)},
		}.Encode())
		if !strings.Contains(answer, test.want) {
			t.Errorf("%s, draft %s: %s, want %s", test.user, test.draft, answer, test.want)
		}
		if after, _ := f.users.byID(u.ID); (len(after.Icon) > 0) != (test.user == "ada@home.test") {
			t.Errorf("%s has a picture of %d bytes", test.user, len(after.Icon))
		}
	}
	if u, _ := f.User("ada@home.test"); !bytes.Equal(u.Icon, blue) || u.Picture != "1" {
		t.Errorf("ada's picture is %d bytes, number %s", len(u.Icon), u.Picture)
	}
}
