package sp_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/moodle"
	"jumpgate/sp"
)

// album is a forum that takes pictures from a home, and both sides of that.
type album struct {
	*forum
	m *headerMoodle

	mu      sync.Mutex
	version string // as the home tells it
	mahara  bool
	picture mnet.Value // of fetch_user_image
	fault   error
	refused error // by Moodle
	asked   []string
	given   map[int64][][]byte
	logged  []string
}

var albums atomic.Int64

func newAlbum(t testing.TB, change ...func(*gateway.Peer)) *album {
	t.Helper()
	a := &album{m: &headerMoodle{login: begun}, given: map[int64][][]byte{}, version: "1795336000", picture: mnet.Array{}}
	a.forum = newHeaderForum(t, a.m, change...)
	redis, err := sharedRedis()
	if err != nil {
		t.Fatal(err)
	}
	learning := sp.NewLearning()
	t.Cleanup(learning.Close)
	a.Logins.Pictures = &sp.Pictures{
		Store: redis.Site(wwwroot(t, fmt.Sprintf("https://album%d.test", albums.Add(1)))), Taking: learning,
		Set: func(_ context.Context, userID int64, picture []byte) error {
			a.mu.Lock()
			defer a.mu.Unlock()
			if a.refused == nil {
				a.given[userID] = append(a.given[userID], picture)
			}
			return a.refused
		},
		Failed: func(home *gateway.Peer, err error) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.logged = append(a.logged, home.Wwwroot.String()+" "+err.Error())
		},
	}
	a.Logins.Call = func(_ context.Context, home *gateway.Peer, method string, params ...mnet.Value) (mnet.Value, error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		if strings.HasSuffix(method, "/user_authorise") {
			if a.mahara {
				return append(ada(), mnet.Member{Name: "imagehash", Value: a.version}), nil
			}
			return append(ada(), mnet.Member{Name: "picture", Value: "7"}, mnet.Member{Name: "_mnet_userpicture_timemodified", Value: a.version},
				mnet.Member{Name: "_mnet_userpicture_mimetype", Value: "image/svg+xml"}), nil
		}
		a.asked = append(a.asked, fmt.Sprint(home.Wwwroot, " ", method, " ", params))
		return a.picture, a.fault
	}
	return a
}

// land lets ada land, and waits for what comes after it.
func (a *album) land(t testing.TB, session string) sp.Arrival {
	t.Helper()
	a.Once = marks{}
	arrival := a.lands(t, session)
	a.after(arrival)
	return arrival
}

func (a *album) after(arrival sp.Arrival) {
	a.TakePicture(arrival)
	a.Logins.Pictures.Taking.Wait()
}

// imageOf is the answer of fetch_user_image with a picture.
func imageOf(data []byte) mnet.Value {
	return mnet.Struct{
		{Name: "f1", Value: base64.StdEncoding.EncodeToString(data)}, {Name: "f1_mimetype", Value: "text/html"},
		{Name: "f2", Value: "not looked at"},
	}
}

func square(side int, c color.Color) image.Image {
	return image.NewPaletted(image.Rect(0, 0, side, side), color.Palette{c})
}

func pngOf(t testing.TB, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

var blue = color.RGBA{B: 255, A: 255}

func TestAPictureIsTakenWhenTheHomeHasAnother(t *testing.T) {
	a := newAlbum(t)
	step := func(what, session string, asked, given int) {
		t.Helper()
		if arrival := a.land(t, session); arrival.Err != nil || arrival.Refused {
			t.Fatalf("%s: %+v", what, arrival)
		}
		if len(a.asked) != asked || len(a.given[9]) != given || len(a.given) > 1 || len(a.logged) != 0 {
			t.Fatalf("%s: asked %q, given %d pictures to %d, and the log says %q", what, a.asked, len(a.given[9]), len(a.given), a.logged)
		}
	}
	a.picture = imageOf(pngOf(t, square(100, blue)))
	step("the first landing", "", 1, 1)
	if want := "https://home.test auth/mnet/auth.php/fetch_user_image [ada]"; a.asked[0] != want {
		t.Errorf("asked %q, want %q", a.asked[0], want)
	}
	step("another landing", "", 1, 1)
	step("one with the session that there is", adas, 1, 1)

	a.version, a.picture = "1795336001", imageOf(pngOf(t, square(100, color.Black)))
	step("a new picture, with the session that there is", adas, 2, 2)
	if drawn, err := png.Decode(bytes.NewReader(a.given[9][1])); err != nil || color.GrayModel.Convert(drawn.At(5, 5)) != (color.Gray{}) {
		t.Errorf("the second picture is %v, %v", drawn, err)
	}
	a.version = "1795336002"
	step("the same picture, that is called new", "", 3, 2)
	step("and known by that", "", 3, 2)
	a.version = "1795336001"
	step("an older one is another one", "", 4, 2)
	a.version, a.mahara = "c0ffee", true
	step("a Mahara's", "", 5, 2)
	a.version = ""
	step("none", "", 5, 2)
	a.version, a.mahara = "0", false
	step("none, as Moodle writes it", "", 5, 2)
	a.version = strings.Repeat("1", 65)
	step("what is no version", "", 5, 2)
}

func TestPicturesThatAreNotTaken(t *testing.T) {
	t.Run("because the home's are not let in", func(t *testing.T) {
		a := newAlbum(t, func(p *gateway.Peer) { p.Import = []string{"city", "country", "lang"} })
		if a.land(t, ""); len(a.asked) != 0 {
			t.Errorf("asked %q", a.asked)
		}
	})
	t.Run("because there is no token", func(t *testing.T) {
		a := newAlbum(t)
		a.Logins.Pictures, a.Once = nil, marks{}
		if a.TakePicture(a.lands(t, "")); len(a.asked) != 0 {
			t.Errorf("asked %q", a.asked)
		}
	})
	t.Run("of who does not land", func(t *testing.T) {
		a := newAlbum(t)
		a.m.err = moodle.ErrLoginRefused
		if arrival := a.land(t, ""); !arrival.Refused || len(a.asked) != 0 {
			t.Errorf("%+v, asked %q", arrival, a.asked)
		}
	})
	t.Run("before who is asked has said yes", func(t *testing.T) {
		a := newAlbum(t)
		a.picture = imageOf(pngOf(t, square(100, blue)))
		arrival := a.land(t, bobs)
		if arrival.Question == nil || len(a.asked) != 0 {
			t.Fatalf("%+v, asked %q", arrival, a.asked)
		}
		for said, given := range map[string]int{"stay": 0, "switch": 1} {
			a.Once = marks{}
			switched := a.Switch(httptest.NewRecorder(), answer(arrival.Question, bobs, said))
			if a.after(switched); switched.Refused || switched.Err != nil || len(a.given[9]) != given {
				t.Errorf("%s: %+v, given %d", said, switched, len(a.given[9]))
			}
			a.given = map[int64][][]byte{}
		}
	})
}

// TestWhatAHomeCallsAPicture sends what is none, and what would hurt a Moodle.
func TestWhatAHomeCallsAPicture(t *testing.T) {
	good := pngOf(t, square(100, blue))
	chunk := func(kind string, data []byte) []byte {
		b := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
		b = append(append(b, kind...), data...)
		return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[4:]))
	}
	bomb := append([]byte("\x89PNG\r\n\x1a\n"), chunk("IHDR", append(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, 50_000), 50_000), 8, 6, 0, 0, 0))...)
	var small, photo bytes.Buffer
	if err := gif.Encode(&small, square(100, blue), nil); err != nil {
		t.Fatal(err)
	}
	if err := jpeg.Encode(&photo, square(100, blue), nil); err != nil {
		t.Fatal(err)
	}
	frame := bytes.Clone(small.Bytes()) // its screen says one pixel, its frame a hundred
	copy(frame[6:], []byte{1, 0, 1, 0})
	script := append(bytes.Clone(good), "<script>alert(1)</script>"...)

	for _, test := range []struct {
		name    string
		answer  mnet.Value
		taken   bool
		logged  string // why not; empty if there is nothing to be said
		forgets bool   // the next landing asks again
	}{
		{"a PNG", imageOf(good), true, "", false},
		{"a JPEG", imageOf(photo.Bytes()), true, "", false},
		{"a GIF", imageOf(small.Bytes()), true, "", false},
		{"with lines of base64", mnet.Struct{{Name: "f1", Value: " " + strings.ReplaceAll(base64.StdEncoding.EncodeToString(good), "A", "A\r\n") + "\n"}}, true, "", false},
		{"a picture that is a page as well", imageOf(script), true, "", false},
		{"the largest", imageOf(pngOf(t, square(512, blue))), true, "", false},

		{"a larger one", imageOf(pngOf(t, square(513, blue))), false, "it has 513 by 513 pixels", false},
		{"one of 50,000 by 50,000 pixels", imageOf(bomb), false, "it has 50000 by 50000 pixels", false},
		{"a GIF with a frame larger than itself", imageOf(frame), false, "is none", false},
		{"the beginning of one", imageOf(good[:len(good)/2]), false, "is none", false},
		{"an SVG", imageOf([]byte(`<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>`)), false, "it is text/xml", false},
		{"a page", imageOf([]byte(`<!DOCTYPE html><script>alert(1)</script>`)), false, "it is text/html", false},
		{"a WebP, of which no Moodle makes a picture", imageOf([]byte("RIFF\x1a\x00\x00\x00WEBPVP8L\x0d\x00\x00\x00\x2f\x00\x00\x00\x10\x07\x10\x11\x11\x88\x88\xfe\x07\x00")), false, "it is image/webp", false},
		{"what is not base64", mnet.Struct{{Name: "f1", Value: "<b>no</b>"}}, false, "is not base64", false},
		{"fifty megabytes", mnet.Struct{{Name: "f1", Value: strings.Repeat("A", 50<<20)}}, false, "has more than 262144 bytes", false},

		{"nothing", mnet.Array{}, false, "", true},
		{"no user", false, false, "", true},
		{"the small one alone", mnet.Struct{{Name: "f2", Value: base64.StdEncoding.EncodeToString(good)}}, false, "", true},
		{"a list", mnet.Array{"f1", "x"}, false, "", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newAlbum(t)
			a.picture = test.answer
			if arrival := a.land(t, ""); arrival.Outcome != sp.OutcomeLanded || arrival.Err != nil {
				t.Fatalf("%+v", arrival)
			}
			a.land(t, "")
			asked := 1
			if test.forgets {
				asked = 2
			}
			if len(a.given[9]) == 1 != test.taken || len(a.asked) != asked {
				t.Errorf("given %d, asked %d times", len(a.given[9]), len(a.asked))
			}
			for _, given := range a.given[9] {
				if kind := http.DetectContentType(given); kind != "image/png" || bytes.Contains(given, []byte("script")) {
					t.Errorf("Moodle is given %s: %q", kind, given)
				}
				if _, err := png.Decode(bytes.NewReader(given)); err != nil {
					t.Error(err)
				}
			}
			if text := strings.Join(a.logged, "\n"); (test.logged == "") != (text == "") || !strings.Contains(text, test.logged) || len(a.logged) > 1 || len(text) > 300 {
				t.Errorf("the log says %.300q", a.logged)
			}
		})
	}
}

// TestAPictureThatIsNotTakenIsTriedAgainLater counts who is asked, and what the
// log says, while the Moodle refuses and while the home does.
func TestAPictureThatIsNotTakenIsTriedAgainLater(t *testing.T) {
	for name, fail := range map[string]func(*album, error){
		"by Moodle":   func(a *album, err error) { a.refused = err },
		"by the home": func(a *album, err error) { a.fault = err },
	} {
		t.Run(name, func(t *testing.T) {
			a := newAlbum(t)
			a.picture = imageOf(pngOf(t, square(100, blue)))
			fail(a, errors.New("no"))
			for n := 1; n <= 3; n++ {
				if a.version = "1"; n == 2 { // what needs no picture changes nothing about that
					a.version = ""
					a.land(t, "")
					a.version = "1"
				}
				if arrival := a.land(t, ""); arrival.Outcome != sp.OutcomeLanded || arrival.Err != nil {
					t.Fatalf("the learner does not land: %+v", arrival)
				}
				if len(a.asked) != n || len(a.given) != 0 {
					t.Errorf("after %d landings: asked %d times", n, len(a.asked))
				}
			}
			if len(a.logged) != 1 {
				t.Errorf("the log says %q", a.logged)
			}
			fail(a, errors.New("no, for another reason"))
			if a.land(t, ""); len(a.logged) != 2 {
				t.Errorf("the log does not say what is new: %q", a.logged)
			}
			fail(a, nil)
			if a.land(t, ""); len(a.given[9]) != 1 {
				t.Error("it is not taken once it can be")
			}
			a.version = "1795336001"
			fail(a, errors.New("no, for another reason"))
			a.picture = imageOf(pngOf(t, square(100, color.White)))
			if a.land(t, ""); len(a.logged) != 3 {
				t.Errorf("the log does not say that it is wrong again: %q", a.logged)
			}
		})
	}
}

// TestAHomeThatHangsHoldsUpNobody has a home that never hands out a picture.
func TestAHomeThatHangsHoldsUpNobody(t *testing.T) {
	a := newAlbum(t)
	call, hanging := a.Logins.Call, make(chan time.Duration, 100)
	a.Logins.Call = func(ctx context.Context, home *gateway.Peer, method string, params ...mnet.Value) (mnet.Value, error) {
		if strings.HasSuffix(method, "/user_authorise") {
			return call(ctx, home, method, params...)
		}
		until, _ := ctx.Deadline()
		hanging <- time.Until(until)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	for range 40 { // more than may hang at once
		a.Once = marks{}
		arrival := a.lands(t, "")
		if a.TakePicture(arrival); arrival.Outcome != sp.OutcomeLanded {
			t.Fatalf("%+v", arrival)
		}
	}
	if limit := <-hanging; limit <= 0 || limit > 15*time.Second {
		t.Errorf("a home may hang for %s", limit)
	}
	a.Logins.Pictures.Taking.Close()
	if n := len(hanging) + 1; n > 16 {
		t.Errorf("%d hang at once", n)
	}
	if len(a.given) != 0 || len(a.logged) > 1 {
		t.Errorf("given %d; the log says %q", len(a.given), a.logged)
	}
	a.Once = marks{}
	a.TakePicture(a.lands(t, ""))
	if a.Logins.Pictures.Taking.Wait(); len(hanging) > 16 {
		t.Error("something is begun after the end")
	}
}

// FuzzRedraw looks for what becomes a picture that is none, or too large.
func FuzzRedraw(f *testing.F) {
	var small, photo bytes.Buffer
	if err := errors.Join(gif.Encode(&small, square(3, blue), nil), jpeg.Encode(&photo, square(3, blue), nil)); err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{pngOf(f, square(3, blue)), small.Bytes(), photo.Bytes(), []byte("<svg/>"), nil} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		drawn, err := sp.RedrawForTest(data)
		if err != nil {
			return
		}
		m, err := png.Decode(bytes.NewReader(drawn))
		if err != nil {
			t.Fatal(err)
		}
		if size := m.Bounds().Size(); size.X < 1 || size.Y < 1 || size.X > 512 || size.Y > 512 {
			t.Errorf("it has %s", size)
		}
	})
}
