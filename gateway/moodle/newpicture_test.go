package moodle

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"jumpgate/gateway"
)

const pictureToken = "0123456789abcdef0123456789abcdef"

// setPicture gives user 9 a picture at a Moodle that answers so.
func setPicture(t *testing.T, serve http.HandlerFunc) error {
	t.Helper()
	server := httptest.NewServer(serve)
	t.Cleanup(server.Close)
	upstream, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	site, err := gateway.ParseWwwroot("https://forum.test/moodle")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return NewWeb(WebOptions{Upstream: upstream, Site: site}).SetPicture(ctx, pictureToken, 9, []byte("a picture"))
}

func TestAPictureIsUploadedAndThenGivenToItsUser(t *testing.T) {
	var asked []string
	err := setPicture(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.Host+r.URL.String())
		if len(asked) == 1 {
			if err := r.ParseMultipartForm(1 << 20); err != nil {
				t.Fatal(err)
			}
			file, header, err := r.FormFile("picture")
			if err != nil {
				t.Fatal(err)
			}
			content, err := io.ReadAll(file)
			if string(content) != "a picture" || err != nil || header.Filename != "picture.png" || r.PostFormValue("token") != pictureToken || r.Header.Get("Cookie") != "" {
				t.Errorf("uploaded: %q as %s, %v", content, header.Filename, err)
			}
			io.WriteString(w, `[{"component":"user","filearea":"draft","filename":"picture.png","filepath":"\/","itemid":123456789,"filesize":9}]`)
			return
		}
		r.ParseForm()
		want := url.Values{
			"wstoken": {pictureToken}, "wsfunction": {"core_user_update_picture"}, "moodlewsrestformat": {"json"},
			"draftitemid": {"123456789"}, "delete": {"0"}, "userid": {"9"},
		}
		if r.PostForm.Encode() != want.Encode() {
			t.Errorf("asked for %v", r.PostForm)
		}
		io.WriteString(w, `{"success":true,"profileimageurl":"https:\/\/forum.test\/x","warnings":[]}`)
	})
	if err != nil {
		t.Error(err)
	}
	want := "POST forum.test/moodle/webservice/upload.php POST forum.test/moodle/webservice/rest/server.php"
	if got := strings.Join(asked, " "); got != want {
		t.Errorf("asked %s", got)
	}
}

func TestAMoodleThatTakesNoPicture(t *testing.T) {
	const uploaded = `[{"itemid":123456789}]`
	for name, test := range map[string]struct {
		upload, update string
		want           string
	}{
		"because the service takes no files":     {`{"error":"Access control exception","errorcode":"accessexception","stacktrace":null}`, "", "the token's service is not one that can upload files"},
		"because the token is none":              {`{"error":"x","errorcode":"invalidtoken"}`, "", "the web service token is not valid"},
		"because it is too large":                {`[{"filename":"picture.png","errortype":"fileoversized","error":"x"}]`, "", `"fileoversized"`},
		"because web services are off":           {`<html>`, "", "not that of an upload"},
		"and uploads nothing":                    {`[]`, "", "not that of an upload"},
		"and names no draft":                     {`[{"filename":"picture.png"}]`, "", "names no draft area"},
		"and answers without end":                {strings.Repeat(" ", maxAnswer) + uploaded, "", "not that of an upload"},
		"because the service lacks the function": {uploaded, `{"exception":"webservice_access_exception","errorcode":"accessexception","message":"x"}`, "the token's service does not contain the function"},
		"because its user lacks a capability":    {uploaded, `{"exception":"required_capability_exception","errorcode":"nopermissions","message":"x"}`, "lacks a capability"},
		"because pictures are switched off":      {uploaded, `{"exception":"moodle_exception","errorcode":"userimagesdisabled","message":"x"}`, `"userimagesdisabled"`},
		"because it makes none of it":            {uploaded, `{"success":false,"warnings":[]}`, "does not say that it has made a picture"},
		"and says nothing":                       {uploaded, ``, "does not say that it has made a picture"},
	} {
		t.Run(name, func(t *testing.T) {
			updates := 0
			err := setPicture(t, func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/upload.php") {
					io.Copy(io.Discard, r.Body)
					io.WriteString(w, test.upload)
					return
				}
				updates++
				io.WriteString(w, test.update)
			})
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), pictureToken) {
				t.Errorf("%v, want %s", err, test.want)
			}
			if (updates == 1) != (test.upload == uploaded) {
				t.Errorf("asked for %d updates", updates)
			}
		})
	}
	t.Run("and breaks off", func(t *testing.T) {
		err := setPicture(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		if err == nil || strings.Contains(err.Error(), pictureToken) || errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
	t.Run("and leads elsewhere", func(t *testing.T) {
		err := setPicture(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://evil.example/", http.StatusTemporaryRedirect)
		})
		if err == nil || !strings.Contains(err.Error(), "status 307") {
			t.Error(err)
		}
	})
}
