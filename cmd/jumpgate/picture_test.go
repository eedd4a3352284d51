package main

import (
	"bytes"
	"image/color"
	"image/png"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"jumpgate/gateway/moodletest"
)

// TestThePictureOfALearnerComesAlong lets one land who has another picture at
// home each time, or the same, while the forum's Moodle takes it or does not.
func TestThePictureOfALearnerComesAlong(t *testing.T) {
	h := newHeaderForum(t, headerSetting{landing: "{by: header, token_file: token}", token: webToken})
	var refuse atomic.Value
	through := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if no := refuse.Load(); no == r.URL.Path || no != "" && r.URL.Path == "/webservice/rest/server.php" && r.FormValue("wsfunction") == no {
				w.Write([]byte(`{"exception":"webservice_access_exception","errorcode":"accessexception","message":"no"}`))
				return
			}
			next.ServeHTTP(w, r)
		})
	}
	h.through.Store(&through)
	account := h.account(1, "ada")
	shown := func() color.Color {
		u, _ := h.moodle.User(account)
		picture, err := png.Decode(bytes.NewReader(u.Icon))
		if err != nil {
			return nil
		}
		return color.RGBAModel.Convert(picture.At(50, 50))
	}
	warnings := func() int { return strings.Count(h.log.String(), "the picture of a learner was not taken") }
	at := time.Now().Truncate(time.Second)
	for i, step := range []struct {
		name    string
		has     []byte // at home from now on; nil for what there was
		refuse  string // the page or function of the forum's Moodle that says no
		want    color.Color
		fetched int // so far
		warned  int
	}{
		{"without one", nil, "", nil, 0, 0},
		{"with one", moodletest.SamplePicture(red), "", red, 1, 0},
		{"with the same", nil, "", red, 1, 0},
		{"with a new one", moodletest.SamplePicture(green), "", green, 2, 0},
		{"with one that Moodle does not let in", moodletest.SamplePicture(red), "/webservice/upload.php", green, 3, 1},
		{"with the same, that it does not take up", nil, "core_user_update_picture", green, 4, 2},
		{"and again", nil, "core_user_update_picture", green, 5, 2},
		{"with the same, that is let in at last", nil, "", red, 6, 2},
		{"with what is no picture", []byte("<svg onload='alert(1)'/>"), "", red, 7, 3},
		{"with the same, which is known", nil, "", red, 7, 3},
	} {
		if step.has != nil {
			h.stock.Update("ada", func(u *moodletest.User) { u.Icon, u.IconTime = step.has, at.Add(time.Duration(i)*time.Minute) })
		}
		refuse.Store(step.refuse)
		h.arrives(newVisitor(t), 1, "ada")
		h.gateway.pictures.Wait()
		fetched := 0
		for _, call := range h.stock.Calls() {
			if strings.HasSuffix(call.Method, "/fetch_user_image") {
				fetched++
			}
		}
		if got := shown(); got != step.want || fetched != step.fetched || warnings() != step.warned {
			t.Errorf("%s: the picture is %v, was fetched %d times, with %d warnings", step.name, got, fetched, warnings())
		}
	}
	if strings.Contains(h.log.String(), webToken) {
		t.Error("the token is in the log")
	}
}

var red, green = color.RGBA{R: 255, A: 255}, color.RGBA{G: 255, A: 255}

func TestWithoutATokenNoPictureIsFetched(t *testing.T) {
	for name, s := range map[string]headerSetting{
		"without a token":    {},
		"for an application": {landing: "jwt"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHeaderForum(t, s)
			h.stock.Update("ada", func(u *moodletest.User) { u.Icon, u.IconTime = moodletest.SamplePicture(red), time.Now() })
			newVisitor(t).follow(h.landing(1, "ada"))
			h.gateway.pictures.Wait()
			redeemed := false
			for _, call := range h.stock.Calls() {
				redeemed = redeemed || strings.HasSuffix(call.Method, "/user_authorise")
				if strings.HasSuffix(call.Method, "/fetch_user_image") {
					t.Error("a picture was fetched")
				}
			}
			if !redeemed {
				t.Error("nobody has landed")
			}
		})
	}
}
