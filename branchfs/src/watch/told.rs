//! What the kernel was told of the base and believes for long, by the directory that news of it come from.
//!
//! Lock order: a shard's lock, then that of `marks`. Under them only the source is called, never the store.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use branch_store::NodeId;
use parking_lot::Mutex;
use rustix::io::Errno;

use super::source::{By, How, Mark, News, Source, What, Wish, open};
use super::stale::Stale;

const SHARDS: usize = 64;
const _: () = assert!(SHARDS.is_power_of_two());

/// Everything the kernel was told, and the source that watches it.
pub struct Told {
    source: Option<Box<dyn Source>>,
    shards: [Mutex<HashMap<NodeId, Directory>>; SHARDS],
    /// Directories by what the source calls them: one that has several ids has one mark.
    marks: Mutex<HashMap<Mark, Vec<NodeId>>>,
    /// Counts news. An answer is as old as the count when its look began.
    now: AtomicU64,
    /// The last time that everything became doubtful.
    doubted: AtomicU64,
    watched: AtomicUsize,
    /// How many marks there were when one more was refused.
    full: AtomicUsize,
}

/// A moment in the order of news.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

/// What is to be thought of the names in a directory of a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Only the branch can change them.
    Own,
    /// They may change in the base, and we hear of it.
    Watched,
    /// They may change in the base, and nobody tells us.
    Blind,
}

/// What shows through a directory of a branch: `None` if nothing of the base does.
pub type Below = io::Result<Option<Arc<OwnedFd>>>;

#[derive(Default)]
struct Directory {
    /// `None`: it cannot be watched, or no longer.
    mark: Option<Mark>,
    /// When something was last heard of it, or it began to be watched.
    news: u64,
    /// Its inode numbers in the branches whose kernel knows it.
    views: Vec<u64>,
    /// Inodes told of under a name in it: hash of the name, inode number.
    objects: BTreeSet<(u32, u64)>,
}

impl Told {
    /// Opens the source that is wished for.
    pub fn new(wish: Wish) -> Told {
        Told::over(open(wish))
    }

    fn over(source: Option<Box<dyn Source>>) -> Told {
        Told {
            source,
            shards: std::array::from_fn(|_| Mutex::default()),
            marks: Mutex::default(),
            now: AtomicU64::new(0),
            doubted: AtomicU64::new(0),
            watched: AtomicUsize::new(0),
            full: AtomicUsize::new(usize::MAX),
        }
    }

    /// How the base is watched.
    pub fn how(&self) -> How {
        self.source.as_ref().map_or(How::Not, |source| source.how())
    }

    /// How many directories are watched.
    pub fn watched(&self) -> usize {
        self.watched.load(Ordering::Relaxed)
    }

    pub(super) fn source(&self) -> Option<&dyn Source> {
        self.source.as_deref()
    }

    /// To be asked for before a look, and after [`Told::enter`].
    pub fn now(&self) -> Moment {
        Moment(self.now.load(Ordering::SeqCst))
    }

    /// The kernel is about to be told something of a directory: watches it if that is possible. `view` is its inode
    /// number, which the kernel knows; it is held until [`Told::leave`].
    pub fn enter(&self, dir: NodeId, view: u64, below: impl FnOnce() -> Below) -> Trust {
        let Some(source) = &self.source else { return Trust::Blind };
        if let Some(known) = self.shard(dir).lock().get_mut(&dir)
            && (known.mark.is_some() || known.views.contains(&view))
        {
            return known.seen_by(view);
        }
        let fd = match below() {
            Ok(None) => return Trust::Own,
            Ok(Some(_)) if self.watched() >= self.full.load(Ordering::Relaxed) => return Trust::Blind,
            Ok(Some(fd)) => fd,
            Err(_) => return Trust::Blind,
        };
        let mut shard = self.shard(dir).lock();
        if let Some(known) = shard.get_mut(&dir)
            && known.mark.is_some()
        {
            return known.seen_by(view);
        }
        match self.add(&**source, dir, &fd) {
            // No more marks for this user, until some are given back.
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NOSPC | Errno::NOMEM)) => {
                tracing::warn!(
                    "{} directories of the base are watched; no more can be: {error}",
                    self.watched()
                );
                self.full.store(self.watched(), Ordering::Relaxed);
                Trust::Blind
            }
            added => {
                let known = shard.entry(dir).or_default();
                match added {
                    Ok(mark) => known.mark = Some(mark),
                    Err(error) => {
                        tracing::debug!("directory {} of the base cannot be watched: {error}", dir.0)
                    }
                }
                known.news = self.tick();
                known.seen_by(view)
            }
        }
    }

    /// Whether a directory is watched and nothing was heard of it since.
    pub fn is_quiet(&self, dir: NodeId, since: Moment) -> bool {
        self.shard(dir).lock().get(&dir).is_some_and(|known| self.is_quiet_since(known, since))
    }

    /// The kernel is about to be told of the object of this name. Whether it may believe it for long: the directory is
    /// watched, and nothing was heard of it since. Held until [`Told::untell`].
    pub fn tell(&self, dir: NodeId, name: &[u8], ino: u64, since: Moment) -> bool {
        let mut shard = self.shard(dir).lock();
        let Some(known) = shard.get_mut(&dir).filter(|known| self.is_quiet_since(known, since)) else {
            return false;
        };
        known.objects.insert((hash(name), ino));
        true
    }

    /// The kernel has forgotten an object, or knows it by another name.
    pub fn untell(&self, dir: NodeId, name: &[u8], ino: u64, below: impl FnOnce() -> Below) {
        self.give_back(dir, below, |known| known.objects.remove(&(hash(name), ino)));
    }

    /// The kernel has forgotten a directory.
    pub fn leave(&self, dir: NodeId, view: u64, below: impl FnOnce() -> Below) {
        self.give_back(dir, below, |known| {
            let before = known.views.len();
            known.views.retain(|other| *other != view);
            known.views.len() < before
        });
    }

    /// Takes what the source has: what is no longer true of what was told. `is_main` tells the views of main, the
    /// only one in which this process's own changes of the base show.
    ///
    /// # Errors
    /// The source's.
    pub fn hear(&self, is_main: impl Fn(u64) -> bool) -> io::Result<Stale> {
        let mut stale = Stale::default();
        if let Some(source) = &self.source {
            source.read(&mut |news| self.note(&news, &is_main, &mut stale))?;
        }
        Ok(stale)
    }

    /// Nothing that was looked at before is to be believed: a verb has changed what branches show.
    pub fn doubt(&self) {
        self.doubted.fetch_max(self.tick(), Ordering::SeqCst);
    }

    /// Whether that has not happened since, nor were news lost.
    pub fn is_undoubted(&self, since: Moment) -> bool {
        self.doubted.load(Ordering::SeqCst) <= since.0
    }

    /// The source has failed: nothing is believed for long any more.
    pub fn give_up(&self) {
        self.doubted.store(u64::MAX, Ordering::SeqCst);
    }

    fn note(&self, news: &News<'_>, is_main: &impl Fn(u64) -> bool, stale: &mut Stale) {
        if news.what == What::Lost {
            self.doubt();
            stale.lost = true;
            return;
        }
        // Not under both locks: the order is the other one.
        let ids = self.marks.lock().get(news.mark).cloned().unwrap_or_default();
        for id in ids {
            let mut shard = self.shard(id).lock();
            if let Some(known) = shard.get_mut(&id) {
                known.news = self.tick();
                known.note(id, news, is_main, stale);
                if news.what == What::Over {
                    self.forget_mark(known, id);
                }
            }
        }
    }

    fn is_quiet_since(&self, known: &Directory, since: Moment) -> bool {
        known.mark.is_some() && known.news <= since.0 && self.is_undoubted(since)
    }

    fn tick(&self) -> u64 {
        self.now.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn add(&self, source: &dyn Source, dir: NodeId, fd: &OwnedFd) -> io::Result<Mark> {
        let mut marks = self.marks.lock();
        let mark = source.add(fd.as_fd())?;
        let ids = marks.entry(mark.clone()).or_default();
        ids.retain(|id| *id != dir);
        ids.push(dir);
        self.watched.store(marks.len(), Ordering::Relaxed);
        Ok(mark)
    }

    /// The source has given up the directory by itself.
    fn forget_mark(&self, known: &mut Directory, dir: NodeId) {
        let Some(mark) = known.mark.take() else { return };
        let mut marks = self.marks.lock();
        if let Some(ids) = marks.get_mut(&mark) {
            ids.retain(|id| *id != dir);
            if ids.is_empty() {
                marks.remove(&mark);
            }
        }
        self.watched.store(marks.len(), Ordering::Relaxed);
    }

    /// What nothing was told of needs no watch.
    fn give_back(
        &self,
        dir: NodeId,
        below: impl FnOnce() -> Below,
        take: impl FnOnce(&mut Directory) -> bool,
    ) {
        let Some(source) = &self.source else { return };
        let mut shard = self.shard(dir).lock();
        let Some(known) = shard.get_mut(&dir) else { return };
        if !take(known) || !known.is_idle() {
            return;
        }
        drop(shard);
        let fd = below().ok().flatten();
        let mut shard = self.shard(dir).lock();
        if !shard.get(&dir).is_some_and(Directory::is_idle) {
            return;
        }
        if let Some(mark) = shard.remove(&dir).and_then(|known| known.mark) {
            self.remove(&**source, &mark, dir, fd);
        }
        // A map that was large once keeps its room otherwise.
        if shard.capacity() > 64 && shard.len() < shard.capacity() / 8 {
            shard.shrink_to_fit();
        }
    }

    fn remove(&self, source: &dyn Source, mark: &[u8], dir: NodeId, fd: Option<Arc<OwnedFd>>) {
        let mut marks = self.marks.lock();
        let Some(ids) = marks.get_mut(mark) else { return };
        ids.retain(|id| *id != dir);
        if !ids.is_empty() {
            return;
        }
        marks.remove(mark);
        if marks.capacity() > 64 && marks.len() < marks.capacity() / 8 {
            marks.shrink_to_fit();
        }
        self.watched.store(marks.len(), Ordering::Relaxed);
        if let Err(error) = source.remove(mark, fd) {
            tracing::debug!("directory {} of the base stays watched: {error}", dir.0);
        }
    }

    fn shard(&self, dir: NodeId) -> &Mutex<HashMap<NodeId, Directory>> {
        &self.shards[dir.0 as usize % SHARDS]
    }
}

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Told({:?}, {} directories)", self.how(), self.watched())
    }
}

impl Directory {
    fn seen_by(&mut self, view: u64) -> Trust {
        if !self.views.contains(&view) {
            self.views.push(view);
        }
        if self.mark.is_some() { Trust::Watched } else { Trust::Blind }
    }

    fn is_idle(&self) -> bool {
        self.views.is_empty() && self.objects.is_empty()
    }

    fn note(&self, id: NodeId, news: &News<'_>, is_main: &impl Fn(u64) -> bool, stale: &mut Stale) {
        let whose = |view: &&u64| news.by == By::Others || is_main(**view);
        match news.what {
            What::Name(name) => {
                for view in self.views.iter().filter(whose) {
                    stale.names.insert((*view, name.to_vec()));
                    stale.directories.insert(*view);
                }
                self.note_objects(id, name, news.by, stale);
                if news.by == By::Others {
                    stale.appeared.insert((id, name.to_vec()));
                }
            }
            What::Object(name) => self.note_objects(id, name, news.by, stale),
            What::Itself => stale.directories.extend(self.views.iter().filter(whose)),
            What::Over => {
                stale.directories.extend(&self.views);
                stale.objects.extend(self.objects.iter().map(|(_, ino)| (id, *ino)));
            }
            What::Lost => {}
        }
    }

    /// Of what we moved ourselves only the attributes are asked for again: in a branch that sees it as it was, it is
    /// elsewhere now, where this directory's news say nothing of it.
    fn note_objects(&self, id: NodeId, name: &[u8], by: By, stale: &mut Stale) {
        let hash = hash(name);
        let told = self.objects.range((hash, 0)..=(hash, u64::MAX)).map(|(_, ino)| (id, *ino));
        match by {
            By::Others => stale.objects.extend(told),
            By::Us => stale.moved.extend(told),
        }
    }
}

/// Two names with the same hash share their news: one is asked for again in vain.
fn hash(name: &[u8]) -> u32 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish() as u32
}

#[cfg(test)]
mod tests {
    use std::os::fd::BorrowedFd;

    use super::*;

    /// Says what it was given to say, and takes as many directories as it has room for.
    struct Script {
        says: Arc<Mutex<Vec<(What<'static>, By)>>>,
        room: usize,
        marked: Arc<AtomicUsize>,
        never_read: std::fs::File,
    }

    impl Source for Script {
        fn how(&self) -> How {
            How::Fanotify
        }

        fn add(&self, _dir: BorrowedFd<'_>) -> io::Result<Mark> {
            if self.marked.load(Ordering::Relaxed) == self.room {
                return Err(Errno::NOSPC.into());
            }
            self.marked.fetch_add(1, Ordering::Relaxed);
            Ok(b"mark".as_slice().into())
        }

        fn remove(&self, _mark: &[u8], _dir: Option<Arc<OwnedFd>>) -> io::Result<()> {
            self.marked.fetch_sub(1, Ordering::Relaxed);
            Ok(())
        }

        fn read(&self, each: &mut dyn FnMut(News<'_>)) -> io::Result<bool> {
            let said = std::mem::take(&mut *self.says.lock());
            said.iter().for_each(|(what, by)| each(News { mark: b"mark", what: *what, by: *by }));
            Ok(!said.is_empty())
        }

        fn queue(&self) -> BorrowedFd<'_> {
            self.never_read.as_fd()
        }
    }

    struct Scene {
        told: Told,
        says: Arc<Mutex<Vec<(What<'static>, By)>>>,
        marked: Arc<AtomicUsize>,
    }

    const DIR: NodeId = NodeId(7);
    /// The directory in two branches, the first of them main.
    const MAIN: u64 = 107;
    const OTHER: u64 = 207;

    impl Scene {
        fn new(room: usize) -> Scene {
            let (says, marked) = (Arc::default(), Arc::default());
            let never_read = std::fs::File::open("/").unwrap();
            let script = Script { says: Arc::clone(&says), room, marked: Arc::clone(&marked), never_read };
            Scene { told: Told::over(Some(Box::new(script))), says, marked }
        }

        fn enter(&self, view: u64) -> Trust {
            self.told.enter(DIR, view, below)
        }

        fn hear(&self, what: What<'static>, by: By) -> Stale {
            self.says.lock().push((what, by));
            self.told.hear(|view| view == MAIN).unwrap()
        }
    }

    fn below() -> Below {
        Ok(Some(Arc::new(std::fs::File::open("/")?.into())))
    }

    #[test]
    fn an_answer_from_before_the_news_is_not_believed_and_one_from_before_that_is_named() {
        let scene = Scene::new(9);
        assert_eq!(scene.enter(OTHER), Trust::Watched);
        let (early, late) = (scene.told.now(), scene.told.now());
        assert!(scene.told.tell(DIR, b"f", 33, early));
        let stale = scene.hear(What::Object(b"f"), By::Others);
        assert_eq!(stale.objects, [(DIR, 33)].into(), "told before the news");
        assert!(!scene.told.tell(DIR, b"f", 34, late), "looked at before the news, told after");
        assert!(!scene.told.is_quiet(DIR, late));
        assert!(scene.told.tell(DIR, b"f", 34, scene.told.now()));
        assert_eq!(scene.hear(What::Object(b"g"), By::Others), Stale::default(), "nobody was told of it");
    }

    #[test]
    fn a_look_from_before_the_watch_is_not_believed() {
        let scene = Scene::new(9);
        let before = scene.told.now();
        scene.enter(OTHER);
        assert!(!scene.told.tell(DIR, b"f", 33, before));
        assert!(!scene.told.tell(NodeId(8), b"f", 33, scene.told.now()), "a directory that nobody watches");
    }

    #[test]
    fn our_own_changes_show_in_main_and_elsewhere_nothing_is_looked_up_again() {
        let scene = Scene::new(9);
        scene.enter(MAIN);
        scene.enter(OTHER);
        scene.told.tell(DIR, b"f", 33, scene.told.now());
        let stale = scene.hear(What::Name(b"f"), By::Us);
        assert_eq!(stale.names, [(MAIN, b"f".to_vec())].into());
        assert_eq!((stale.objects, stale.moved), ([].into(), [(DIR, 33)].into()));
        let stale = scene.hear(What::Name(b"f"), By::Others);
        assert_eq!(stale.names, [(MAIN, b"f".to_vec()), (OTHER, b"f".to_vec())].into());
        assert_eq!(stale.objects, [(DIR, 33)].into());
    }

    #[test]
    fn after_lost_news_nothing_from_before_is_believed() {
        let scene = Scene::new(9);
        scene.enter(OTHER);
        let before = scene.told.now();
        assert!(scene.hear(What::Lost, By::Others).lost);
        assert!(!scene.told.tell(DIR, b"f", 33, before));
        assert!(scene.told.tell(DIR, b"f", 33, scene.told.now()));
        scene.told.give_up();
        assert!(!scene.told.tell(DIR, b"f", 33, scene.told.now()), "and nothing at all when it is over");
    }

    #[test]
    fn a_directory_is_watched_until_it_and_all_in_it_is_forgotten() {
        let scene = Scene::new(9);
        scene.enter(MAIN);
        scene.enter(OTHER);
        scene.told.tell(DIR, b"f", 33, scene.told.now());
        scene.told.leave(DIR, MAIN, below);
        scene.told.leave(DIR, OTHER, below);
        assert_eq!((scene.told.watched(), scene.marked.load(Ordering::Relaxed)), (1, 1));
        scene.told.untell(DIR, b"f", 33, below);
        assert_eq!((scene.told.watched(), scene.marked.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn where_there_are_no_more_marks_directories_are_asked_for_again_until_one_is_given_back() {
        let scene = Scene::new(1);
        assert_eq!(scene.enter(OTHER), Trust::Watched);
        let other = NodeId(8);
        assert_eq!(scene.told.enter(other, 208, below), Trust::Blind);
        assert_eq!(scene.told.enter(other, 208, below), Trust::Blind);
        scene.told.leave(DIR, OTHER, below);
        assert_eq!(scene.told.enter(other, 208, below), Trust::Watched);
    }

    #[test]
    fn what_is_the_branchs_alone_needs_no_watch() {
        let scene = Scene::new(9);
        assert_eq!(scene.told.enter(DIR, OTHER, || Ok(None)), Trust::Own);
        assert_eq!(scene.told.enter(DIR, OTHER, || Err(Errno::STALE.into())), Trust::Blind);
        assert_eq!(scene.told.watched(), 0);
    }
}
